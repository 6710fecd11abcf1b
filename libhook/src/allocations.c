/* Open-addressing table of what this process holds, under one mutex: tens of nanoseconds beside the
 * microseconds of the driver call it accompanies. */
#define _GNU_SOURCE
#include "allocations.h"

#include "account.h"
#include "locks.h"
#include "log.h"
#include "region.h"

#include <stdlib.h>
#include <string.h>

static struct ph_mutex mutex = PH_MUTEX(ALLOCATIONS);
static struct ph_entry *table; /* holding 0 = empty, -1 = removed */
static size_t capacity, filled, live;
enum { REMOVED = -1 };

static size_t hash(enum ph_holding holding, uint64_t key) {
    uint64_t mixed = (key ^ ((uint64_t)holding << 56)) * 0x9e3779b97f4a7c15u;
    return (size_t)(mixed >> 17);
}

/* With the mutex held. Half of the table is free, so that looking up ends; what is charged has a device; what is counted
 * by references has some. */
static void assert_table(const struct ph_entry *touched) {
    PH_ASSERT(live <= filled && filled * 2 <= capacity);
    PH_ASSERT(touched->device >= -1 && touched->device < PH_MAX_DEVICES); /* -1: a pool of the host */
    PH_ASSERT(touched->device >= 0 || touched->bytes == 0);
    PH_ASSERT(touched->holding != PH_PHYSICAL || touched->references > 0);
    (void)touched;
}

static struct ph_entry *look_up(enum ph_holding holding, uint64_t key) {
    if (!capacity) return NULL;
    for (size_t i = hash(holding, key) & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
        if (table[i].holding == 0) return NULL;
        if (table[i].holding == holding && table[i].key == key) return &table[i];
    }
}

static bool grow(void) {
    size_t wanted = capacity ? (live * 4 > capacity ? capacity * 2 : capacity) : 256;
    struct ph_entry *bigger = calloc(wanted, sizeof *bigger);
    if (!bigger) return false;
    for (size_t i = 0; i < capacity; i++) {
        if (table[i].holding == 0 || (int)table[i].holding == REMOVED) continue;
        size_t at = hash(table[i].holding, table[i].key) & (wanted - 1);
        while (bigger[at].holding != 0) at = (at + 1) & (wanted - 1);
        bigger[at] = table[i];
    }
    free(table);
    table = bigger;
    capacity = wanted;
    filled = live;
    return true;
}

static void remove_entry(struct ph_entry *entry) {
    PH_ASSERT(live > 0);
    entry->holding = (enum ph_holding)REMOVED;
    live--;
}

void ph_allocations_add(struct ph_entry entry) {
    ph_mutex_lock(&mutex);
    struct ph_entry *old = look_up(entry.holding, entry.key);
    if (old) {
        assert_table(&entry);
        /* The driver reuses a key whose end we did not see: the old holding is over. */
        if (old->bytes) ph_release(old->device, old->bytes);
        *old = entry;
    } else if ((filled + 1) * 2 <= capacity || grow()) {
        size_t at = hash(entry.holding, entry.key) & (capacity - 1);
        while (table[at].holding != 0 && (int)table[at].holding != REMOVED) at = (at + 1) & (capacity - 1);
        filled += table[at].holding == 0;
        table[at] = entry;
        live++;
        assert_table(&entry);
    } else {
        ph_error("out of memory for the table of allocations: %llu bytes stay charged until this process ends",
                 (unsigned long long)entry.bytes);
    }
    ph_mutex_unlock(&mutex);
}

bool ph_allocations_find(enum ph_holding holding, uint64_t key, struct ph_entry *entry) {
    ph_mutex_lock(&mutex);
    struct ph_entry *found = look_up(holding, key);
    if (found) *entry = *found;
    ph_mutex_unlock(&mutex);
    return found != NULL;
}

bool ph_allocations_take(enum ph_holding holding, uint64_t key, struct ph_entry *entry) {
    ph_mutex_lock(&mutex);
    struct ph_entry *found = look_up(holding, key);
    if (found) {
        *entry = *found;
        remove_entry(found);
    }
    ph_mutex_unlock(&mutex);
    return found != NULL;
}

bool ph_allocations_refer(uint64_t handle) {
    ph_mutex_lock(&mutex);
    struct ph_entry *found = look_up(PH_PHYSICAL, handle);
    if (found) assert_table(found), found->references++;
    ph_mutex_unlock(&mutex);
    return found != NULL;
}

bool ph_allocations_unrefer(uint64_t handle, struct ph_entry *gone) {
    ph_mutex_lock(&mutex);
    struct ph_entry *found = look_up(PH_PHYSICAL, handle);
    bool last = found && --found->references <= 0;
    if (last) {
        *gone = *found;
        remove_entry(found);
    }
    ph_mutex_unlock(&mutex);
    return last;
}

void ph_allocations_resize(enum ph_holding holding, uint64_t key, uint64_t bytes) {
    ph_mutex_lock(&mutex);
    struct ph_entry *found = look_up(holding, key);
    if (found) {
        if (bytes > found->bytes) ph_charge(found->device, bytes - found->bytes);
        else ph_release(found->device, found->bytes - bytes);
        found->bytes = bytes;
        assert_table(found);
    }
    ph_mutex_unlock(&mutex);
}

void ph_allocations_charge_apart(enum ph_holding holding, uint64_t other) {
    ph_mutex_lock(&mutex);
    for (size_t i = 0; i < capacity; i++) {
        struct ph_entry *entry = &table[i];
        if (entry->holding != holding || entry->other != other || entry->bytes) continue;
        ph_charge(entry->device, entry->size);
        entry->bytes = entry->size;
    }
    ph_mutex_unlock(&mutex);
}

uint64_t ph_allocations_drop_context(uint64_t context) {
    uint64_t given = 0;
    ph_mutex_lock(&mutex);
    for (size_t i = 0; i < capacity; i++) {
        struct ph_entry *entry = &table[i];
        bool dies = entry->holding == PH_LINEAR || entry->holding == PH_ARRAY || entry->holding == PH_CONTEXT ||
                    entry->holding == PH_EXTERNAL;
        if (!dies || entry->other != context) continue;
        ph_release(entry->device, entry->bytes);
        given += entry->bytes;
        remove_entry(entry);
    }
    ph_mutex_unlock(&mutex);
    return given;
}

size_t ph_allocations_keys(enum ph_holding holding, uint64_t low, uint64_t high, uint64_t *keys, size_t room) {
    size_t count = 0;
    ph_mutex_lock(&mutex);
    for (size_t i = 0; i < capacity && count < room; i++)
        if (table[i].holding == holding && table[i].key >= low && table[i].key < high) keys[count++] = table[i].key;
    ph_mutex_unlock(&mutex);
    return count;
}

static uint64_t sum_of(enum ph_holding holding, int device) { /* holding 0: all */
    uint64_t sum = 0;
    ph_mutex_lock(&mutex);
    for (size_t i = 0; i < capacity; i++) {
        bool counts = holding ? table[i].holding == holding : table[i].holding != 0 && (int)table[i].holding != REMOVED;
        if (counts && table[i].device == device) sum += table[i].bytes;
    }
    ph_mutex_unlock(&mutex);
    return sum;
}

uint64_t ph_allocations_bytes(int device) { return sum_of((enum ph_holding)0, device); }
uint64_t ph_allocations_sum(enum ph_holding holding, int device) { return sum_of(holding, device); }

void ph_allocations_after_fork(void) {
    ph_mutex_after_fork(&mutex);
    table = NULL; /* not freed: another thread of the parent may have been rebuilding it */
    capacity = filled = live = 0;
}
