/* What a process has used of a GPU and not yet paid, kept where others find it when it dies: a measurement is charged
 * milliseconds after the work, and a process may be killed before. Times are host ns of CLOCK_MONOTONIC. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ph_unbilled {
    int64_t unpaid_ns; /* measured, not yet charged */
    int64_t since;     /* from when on work has run that is not measured; 0 = none does */
    int64_t seen;      /* when the owner last looked at its measurements */
    int64_t unused;
};

/* A living owner looks every millisecond until it has rested for twenty, then every twenty (housekeeper.c). */
enum { PH_UNBILLED_LOOKS_NS = 2000000, PH_UNBILLED_LOOKS_RESTED_NS = 22000000, PH_UNBILLED_RESTED_NS = 15000000, PH_UNBILLED_ALIVE_NS = 10000000 };
static const int64_t PH_UNBILLED_MOST_NS = 1000000000;

/* ns that a dead owner leaves unpaid, at most, seen at `now`. The values may be anything. */
static inline int64_t ph_unbilled_total(const struct ph_unbilled *unbilled, int64_t now) {
    int64_t unpaid = __atomic_load_n(&unbilled->unpaid_ns, __ATOMIC_RELAXED), since = __atomic_load_n(&unbilled->since, __ATOMIC_RELAXED);
    int64_t seen = __atomic_load_n(&unbilled->seen, __ATOMIC_RELAXED), sum = 0;
    if (unpaid > 0) sum = unpaid < PH_UNBILLED_MOST_NS ? unpaid : PH_UNBILLED_MOST_NS;
    if (since > 0 && since < now) {
        if (seen < 0 || seen > now) seen = 0;
        bool rested = seen != 0 && since > seen + PH_UNBILLED_RESTED_NS;
        int64_t end = (seen > since ? seen : since) + (rested ? PH_UNBILLED_LOOKS_RESTED_NS : PH_UNBILLED_LOOKS_NS);
        sum += (end < now ? end : now) - since;
    }
    return sum < PH_UNBILLED_MOST_NS ? sum : PH_UNBILLED_MOST_NS;
}

/* Its owner has looked so lately that asking whether it lives can wait. */
static inline bool ph_unbilled_fresh(const struct ph_unbilled *unbilled, int64_t now) {
    int64_t since = __atomic_load_n(&unbilled->since, __ATOMIC_RELAXED), seen = __atomic_load_n(&unbilled->seen, __ATOMIC_RELAXED);
    int64_t last = seen > since ? seen : since;
    return last > 0 && last <= now && now - last < PH_UNBILLED_ALIVE_NS;
}
