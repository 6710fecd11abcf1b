#include "costs.h"

enum {
    COSTS = 1024,
    UNKNOWN_NS = 100000,
    LEARNING = 4, /* samples before a cost is believed */
    RESAMPLE = 512,
    MEMORY = 16,        /* samples that the running mean remembers */
    RESOLUTION_NS = 100, /* below it events cannot tell */
};

struct ph_cost {
    const void *key;
    uint64_t size;
    int64_t ns;
    uint32_t samples, launches;
};
static struct ph_cost costs[COSTS];

#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

int64_t ph_cost_ns(const struct ph_cost *cost) { return GET(cost->ns); }

struct ph_cost *ph_cost_of(const void *key, uint64_t size) {
    uint64_t mixed = ((uint64_t)(uintptr_t)key ^ size * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    struct ph_cost *cost = &costs[(mixed >> 40) & (COSTS - 1)];
    if (GET(cost->key) != key || GET(cost->size) != size) {
        SET(cost->samples, 0);
        SET(cost->launches, 0);
        SET(cost->ns, UNKNOWN_NS);
        SET(cost->size, size);
        SET(cost->key, key);
    }
    return cost;
}

bool ph_cost_believed(const struct ph_cost *cost) { return GET(cost->samples) >= LEARNING; }

bool ph_cost_wants_sample(const struct ph_cost *cost) {
    return !ph_cost_believed(cost) || GET(cost->launches) % RESAMPLE == 0;
}

void ph_cost_count_launch(struct ph_cost *cost) { __atomic_add_fetch(&cost->launches, 1, __ATOMIC_RELAXED); }

void ph_cost_learn(struct ph_cost *cost, int64_t busy_ns) {
    uint32_t samples = GET(cost->samples);
    int64_t ns = ph_cost_ns(cost);
    ns += (busy_ns - ns) / (samples < MEMORY ? (int64_t)samples + 1 : MEMORY);
    SET(cost->ns, ns < RESOLUTION_NS ? RESOLUTION_NS : ns);
    SET(cost->samples, samples + 1);
}
