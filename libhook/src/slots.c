/* Slots: whose they are, claiming one, and clearing those of the dead. */
#define _GNU_SOURCE
#include "slots.h"

#include "clock.h"
#include "locks.h"
#include "log.h"
#include "process.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What the dead owner used and did not pay is left to the container. */
static void leave_debts(int index) {
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        struct ph_unbilled *unbilled = &ph_region.extension->unbilled[index][i];
        int64_t owed = ph_unbilled_total(unbilled, ph_now());
        if (owed > 0) __atomic_add_fetch(&ph_region.extension->buckets[i].left_ns, owed, __ATOMIC_RELAXED);
        __atomic_store_n(&unbilled->unpaid_ns, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&unbilled->since, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&unbilled->seen, 0, __ATOMIC_RELAXED);
    }
}

static void clear_slot(int index) {
    leave_debts(index);
    struct ph_slot *slot = &ph_region.hami->slots[index];
    __atomic_store_n(&slot->status, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        struct ph_slot_memory *used = &slot->used[i];
        __atomic_store_n(&used->total, 0, __ATOMIC_SEQ_CST);
        used->context = used->module = used->data = used->offset = 0;
        slot->monitor_used[i] = 0;
        memset(&slot->utilization[i], 0, sizeof slot->utilization[i]);
    }
    slot->host_pid = 0;
    __atomic_store_n(&slot->pid, 0, __ATOMIC_SEQ_CST);
}

/* Its lock is free, yet its owner lives: a program that closed our descriptor. exec frees the lock too, but then
 * the region is not mapped any more. What cannot be told counts as alive: the limit comes first. */
static bool owner_lives(int index) {
    const struct ph_identity *identity = &ph_region.extension->identities[index];
    int pid = ph_region.hami->slots[index].pid;
    if (pid <= 0 || identity->pid_namespace == 0 || identity->pid_namespace != ph_process_namespace()) return false;
    if (ph_process_start_time(pid) != identity->start_time) return false;
    if (pid == getpid()) return index == ph_own_slot(); /* a slot of mine that is not mine was mine before I began anew by exec */
    enum ph_mapped mapped = ph_mapped_by(pid, ph_region.inode);
    return mapped == PH_MAPS || (mapped == PH_CANNOT_TELL && ph_process_start_time(pid) == identity->start_time);
}

static void take_slot(int index) {
    PH_ASSERT(index >= 0 && index < PH_MAX_SLOTS && ph_own_slot() < 0); /* a process has one */
    struct ph_hami_region *hami = ph_region.hami;
    struct ph_identity *identity = &ph_region.extension->identities[index];
    clear_slot(index);
    identity->start_time = ph_process_start_time(getpid());
    identity->pid_namespace = ph_process_namespace();
    identity->generation++;
    hami->slots[index].pid = getpid();
    __atomic_store_n(&hami->slots[index].status, 1, __ATOMIC_SEQ_CST);
    int32_t high = __atomic_load_n(&hami->slot_high_water, __ATOMIC_SEQ_CST);
    while (high <= index && !__atomic_compare_exchange_n(&hami->slot_high_water, &high, index + 1, false,
                                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    __atomic_store_n(&ph_region.slot, index, __ATOMIC_RELEASE);
}

static struct ph_mutex claim_mutex = PH_MUTEX(CLAIM);
static bool claim(void);

bool ph_region_claim_slot(void) {
    if (!ph_region.hami) return false;
    ph_mutex_lock(&claim_mutex); /* two threads' first allocations must not take two slots */
    bool claimed = ph_own_slot() >= 0 || claim();
    ph_mutex_unlock(&claim_mutex);
    return claimed;
}

static bool claim(void) {
    if (ph_region.state == PH_REGION_PRIVATE) {
        take_slot(0);
        return true;
    }
    if (!ph_region_reachable()) return false;
    /* First those that look free, then any whose owner is dead. */
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < PH_MAX_SLOTS; i++) {
            bool looks_free = __atomic_load_n(&ph_region.hami->slots[i].status, __ATOMIC_SEQ_CST) == 0;
            if (looks_free != (pass == 0) || ph_region_lock_byte(ph_region.fd, PH_LOCK_SLOTS + i, F_WRLCK) != 0) continue;
            if (pass == 1 && owner_lives(i)) {
                ph_region_lock_byte(ph_region.fd, PH_LOCK_SLOTS + i, F_UNLCK);
                continue;
            }
            take_slot(i);
            return true;
        }
    ph_error("all %d process slots of the container are taken", PH_MAX_SLOTS);
    return false;
}

static bool clear_if_dead(int index) {
    PH_ASSERT(index != ph_own_slot());
    if (ph_region_lock_byte(ph_region.fd, PH_LOCK_SLOTS + index, F_WRLCK) != 0) return false;
    bool dead = !owner_lives(index);
    if (dead) clear_slot(index);
    ph_region_lock_byte(ph_region.fd, PH_LOCK_SLOTS + index, F_UNLCK);
    return dead;
}

/* Slots below are worth a look. */
static int slots_used(void) {
    int32_t high = __atomic_load_n(&ph_region.hami->slot_high_water, __ATOMIC_SEQ_CST);
    return high < 0 || high > PH_MAX_SLOTS ? PH_MAX_SLOTS : high;
}

static bool of_another(int index) {
    return index != ph_own_slot() && __atomic_load_n(&ph_region.hami->slots[index].status, __ATOMIC_SEQ_CST) != 0;
}

int ph_region_reap(void) {
    if (!ph_region_reachable()) return 0;
    int freed = 0;
    for (int i = 0, used = slots_used(); i < used; i++)
        if (of_another(i) && clear_if_dead(i)) freed++;
    return freed;
}

void ph_region_reap_unbilled(int64_t now) {
    if (ph_region.state != PH_REGION_SHARED || !ph_region_reachable()) return;
    for (int i = 0, used = slots_used(); i < used; i++) {
        if (!of_another(i)) continue;
        for (int device = 0; device < PH_MAX_DEVICES; device++) {
            const struct ph_unbilled *unbilled = &ph_region.extension->unbilled[i][device];
            if (ph_unbilled_total(unbilled, now) == 0 || ph_unbilled_fresh(unbilled, now)) continue;
            clear_if_dead(i);
            break;
        }
    }
}

void ph_slots_after_fork(void) {
    ph_region.slot = -1;
    ph_mutex_after_fork(&claim_mutex);
    if (ph_region.state == PH_REGION_PRIVATE) clear_slot(0);
}
