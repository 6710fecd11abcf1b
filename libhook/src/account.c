/* Reserve, then sum: a process first adds to its own slot and then looks at the sum of all. Two that race
 * both see each other, so no interleaving lets the sum of granted bytes pass the limit. */
#define _GNU_SOURCE
#include "account.h"

#include "compiler.h"
#include "config.h"
#include "limits.h"
#include "slots.h"

#include <stdlib.h>

static uint64_t *own_total(int device) {
    PH_ASSERT(device >= 0 && device < PH_MAX_DEVICES);
    if (ph_own_slot() < 0 && !ph_region_claim_slot()) return NULL;
    return &ph_region.hami->slots[ph_own_slot()].used[device].total;
}

static void publish(int device) {
    struct ph_slot_memory *used = &ph_region.hami->slots[ph_own_slot()].used[device];
    uint64_t total = __atomic_load_n(&used->total, __ATOMIC_RELAXED), context = __atomic_load_n(&used->context, __ATOMIC_RELAXED);
    __atomic_store_n(&used->data, total > context ? total - context : 0, __ATOMIC_RELAXED);
}

uint64_t ph_own_bytes(int device) {
    uint64_t *own = own_total(device);
    return own ? __atomic_load_n(own, __ATOMIC_SEQ_CST) : 0;
}

void ph_show_overhead(int device, uint64_t bytes) {
    if (!own_total(device)) return;
    __atomic_store_n(&ph_region.hami->slots[ph_own_slot()].used[device].context, bytes, __ATOMIC_RELAXED);
    publish(device);
}

uint64_t ph_memory_limit(int device) {
    uint64_t configured = __atomic_load_n(&ph_config.memory_limit[device], __ATOMIC_RELAXED);
    if (!ph_region.hami) return configured;
    uint64_t shared = __atomic_load_n(&ph_region.hami->limit[device], __ATOMIC_RELAXED);
    return ph_limit_in_force(configured, shared, ph_config.trusted);
}

uint64_t ph_usage(int device) {
    if (!ph_region.hami) return 0;
    uint64_t sum = 0;
    int32_t high = __atomic_load_n(&ph_region.hami->slot_high_water, __ATOMIC_SEQ_CST);
    if (high < 0 || high > PH_MAX_SLOTS) high = PH_MAX_SLOTS;
    int own = ph_own_slot();
    if (high <= own) high = own + 1;
    for (int32_t i = 0; i < high; i++) {
        const struct ph_slot *slot = &ph_region.hami->slots[i];
        if (__atomic_load_n(&slot->status, __ATOMIC_SEQ_CST) == 0 && i != own) continue;
        uint64_t total = __atomic_load_n(&slot->used[device].total, __ATOMIC_SEQ_CST);
        sum = sum + total < sum ? UINT64_MAX : sum + total;
    }
    return sum;
}

static bool fits_after_adding(uint64_t *own, int device, uint64_t bytes, uint64_t limit) {
    __atomic_add_fetch(own, bytes, __ATOMIC_SEQ_CST);
    if (ph_usage(device) <= limit) return true;
    __atomic_sub_fetch(own, bytes, __ATOMIC_SEQ_CST);
    return false;
}

bool ph_reserve(int device, uint64_t bytes) {
    uint64_t limit = ph_memory_limit(device);
    uint64_t *own = own_total(device);
    if (!own) return limit == 0;
    if (limit != 0 && bytes > limit) return false;
    bool granted = limit == 0;
    if (granted) __atomic_add_fetch(own, bytes, __ATOMIC_SEQ_CST);
    else granted = fits_after_adding(own, device, bytes, limit);
    if (!granted) {
        /* Dead processes may hold the room, or two of us collided near the limit: try again, one at a time. */
        ph_region_reap();
        bool locked = ph_region_lock(PH_LOCK_SLOW, 100);
        granted = fits_after_adding(own, device, bytes, limit);
        if (locked) ph_region_unlock(PH_LOCK_SLOW);
    }
    if (granted) publish(device);
    else __atomic_add_fetch(&ph_region.extension->memory_limit_denials, 1, __ATOMIC_RELAXED);
    return granted;
}

void ph_charge(int device, uint64_t bytes) {
    uint64_t *own = own_total(device);
    if (!own) return;
    __atomic_add_fetch(own, bytes, __ATOMIC_SEQ_CST);
    publish(device);
}

void ph_release(int device, uint64_t bytes) {
    uint64_t *own = own_total(device);
    if (!own) return;
    uint64_t had = __atomic_load_n(own, __ATOMIC_SEQ_CST);
    /* Somebody wrote to our slot if less is there than we charged: stop at zero, never wrap. */
    while (!__atomic_compare_exchange_n(own, &had, had >= bytes ? had - bytes : 0, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
    }
    publish(device);
}
