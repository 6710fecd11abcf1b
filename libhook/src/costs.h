/* What a kernel (with its grid) or a graph usually costs. Learned from batches of one launch: the first four,
 * then one in 512. The estimate bounds what may be in flight unmeasured and is the bill where events cannot be.
 * Threads share the table without a lock: two kernels that meet in one place spoil each other's estimate for a
 * while, and two launches at once may count as one; never a measured bill. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    PH_COSTS = 1024,
    PH_COST_UNKNOWN_NS = 100000,
    PH_COST_LEARNING = 4, /* samples before a cost is believed */
    PH_COST_RESAMPLE = 512,
};

struct ph_cost {
    const void *key;
    uint64_t size;
    int64_t ns;
    uint16_t samples;
    int16_t awaited; /* launches of whatever is kept here that are being measured alone */
    uint32_t launches;
};
extern struct ph_cost ph_costs[PH_COSTS];

/* The place is taken for another key. */
void ph_cost_start_over(struct ph_cost *cost, const void *key, uint64_t size);
/* `held`: it may have waited for a rank on another GPU, and taken longer than it costs. */
void ph_cost_learn(struct ph_cost *cost, int64_t busy_ns, bool held);
void ph_costs_after_fork(void);

static inline struct ph_cost *ph_cost_of(const void *key, uint64_t size) {
    uint64_t mixed = ((uint64_t)(uintptr_t)key ^ size * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    struct ph_cost *cost = &ph_costs[(mixed >> 40) & (PH_COSTS - 1)];
    if (__atomic_load_n(&cost->key, __ATOMIC_RELAXED) != key || __atomic_load_n(&cost->size, __ATOMIC_RELAXED) != size)
        ph_cost_start_over(cost, key, size);
    return cost;
}

static inline int64_t ph_cost_ns(const struct ph_cost *cost) { return __atomic_load_n(&cost->ns, __ATOMIC_RELAXED); }

/* Never measured, not even beside ranks that were held. */
static inline bool ph_cost_unmeasured(const struct ph_cost *cost) {
    return __atomic_load_n(&cost->samples, __ATOMIC_RELAXED) == 0 && ph_cost_ns(cost) == PH_COST_UNKNOWN_NS;
}

static inline bool ph_cost_believed(const struct ph_cost *cost) {
    return __atomic_load_n(&cost->samples, __ATOMIC_RELAXED) >= PH_COST_LEARNING;
}

/* This launch shall be measured alone. */
static inline bool ph_cost_wants_sample(const struct ph_cost *cost) {
    return !ph_cost_believed(cost) || __atomic_load_n(&cost->launches, __ATOMIC_RELAXED) % PH_COST_RESAMPLE == 0;
}

static inline void ph_cost_await(struct ph_cost *cost, int16_t more) { __atomic_add_fetch(&cost->awaited, more, __ATOMIC_RELAXED); }

static inline void ph_cost_sample_next(struct ph_cost *cost) { __atomic_store_n(&cost->launches, 0, __ATOMIC_RELAXED); }

/* Nobody knows it yet, but a measurement is under way. */
static inline bool ph_cost_awaited(const struct ph_cost *cost) {
    return __atomic_load_n(&cost->samples, __ATOMIC_RELAXED) == 0 && __atomic_load_n(&cost->awaited, __ATOMIC_RELAXED) > 0;
}

static inline void ph_cost_count_launch(struct ph_cost *cost) {
    __atomic_store_n(&cost->launches, __atomic_load_n(&cost->launches, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}
