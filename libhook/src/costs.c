#include "costs.h"

#include <string.h>

enum {
    MEMORY = 16,         /* samples that the running mean remembers */
    RESOLUTION_NS = 100, /* below it events cannot tell */
};

struct ph_cost ph_costs[PH_COSTS];

#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

void ph_cost_start_over(struct ph_cost *cost, const void *key, uint64_t size) {
    SET(cost->samples, 0);
    SET(cost->launches, 0);
    SET(cost->ns, PH_COST_UNKNOWN_NS);
    SET(cost->size, size);
    SET(cost->key, key);
}

void ph_cost_learn(struct ph_cost *cost, int64_t busy_ns, bool held) {
    uint16_t samples = GET(cost->samples);
    int64_t ns = ph_cost_ns(cost);
    if (held) { /* a bound from above, and no sample */
        if (ph_cost_unmeasured(cost) || busy_ns < ns) SET(cost->ns, busy_ns < RESOLUTION_NS ? RESOLUTION_NS : busy_ns);
        return;
    }
    ns += (busy_ns - ns) / (samples < MEMORY ? (int64_t)samples + 1 : MEMORY);
    SET(cost->ns, ns < RESOLUTION_NS ? RESOLUTION_NS : ns);
    if (samples < UINT16_MAX) SET(cost->samples, (uint16_t)(samples + 1));
}

void ph_costs_after_fork(void) { memset(ph_costs, 0, sizeof ph_costs); /* contexts and their kernels stay the parent's */ }
