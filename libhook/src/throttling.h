/* When launches onto each GPU of the container were held back for the limit, told to all its processes: a kernel on one
 * GPU may do nothing but wait for a rank on another that the limiter holds, or held before what that rank still has to do,
 * and such waiting is nobody's use. A ring of quarter milliseconds for each GPU, marked by whoever holds before it sleeps;
 * the dead leave nothing to clear. */
#pragma once

#include "activity.h"

struct ph_throttle_ring {
    uint32_t turn[PH_BINS]; /* the turn of the ring in which it was marked last, plus one; atomic */
    int64_t counted_to;     /* bins; what the other GPUs were held before is in `excuses_ns`; atomic */
    int64_t excuses_ns;     /* that they were held, less what has been excused on this GPU; atomic */
};
static const int64_t PH_EXCUSES_MOST_NS = (int64_t)PH_BINS / 2 * PH_BIN_NS;

static inline uint32_t ph_throttle_turn(int64_t bin) { return (uint32_t)(bin / PH_BINS) + 1; }

/* A launch is held in [from, to), a time still to come. */
static inline void ph_throttle_mark(struct ph_throttle_ring *ring, int64_t from, int64_t to) {
    if (to - from > (int64_t)PH_BINS / 2 * PH_BIN_NS) to = from + (int64_t)PH_BINS / 2 * PH_BIN_NS;
    for (int64_t bin = from / PH_BIN_NS; bin * PH_BIN_NS < to; bin++)
        __atomic_store_n(&ring->turn[bin % PH_BINS], ph_throttle_turn(bin), __ATOMIC_RELAXED);
}

/* Somebody was held on a GPU other than `device` in the bin. */
static inline bool ph_throttled_elsewhere(const struct ph_throttle_ring *rings, int count, int device, int64_t bin) {
    for (int i = 0; i < count; i++)
        if (i != device && __atomic_load_n(&rings[i].turn[bin % PH_BINS], __ATOMIC_RELAXED) == ph_throttle_turn(bin)) return true;
    return false;
}

/* ns of [from, to) that were so, to a quarter millisecond. */
static inline int64_t ph_throttle_overlap(const struct ph_throttle_ring *rings, int count, int device, int64_t from, int64_t to) {
    int64_t sum = 0, horizon = to - (int64_t)PH_BINS / 2 * PH_BIN_NS;
    for (int64_t bin = (from > horizon ? from : horizon) / PH_BIN_NS; bin * PH_BIN_NS < to; bin++)
        if (ph_throttled_elsewhere(rings, count, device, bin)) sum += PH_BIN_NS;
    return sum < to - from ? sum : to - from;
}

/* How much of `wanted` ns, which a kernel on `device` has run longer than it usually does until `to`, others' holds excuse:
 * no more in all than somebody was held elsewhere meanwhile. The wait comes after the hold, once what was held has been
 * launched and all behind it up to the point where the ranks meet. */
static inline int64_t ph_throttle_excuse(struct ph_throttle_ring *rings, int count, int device, int64_t to, int64_t wanted) {
    struct ph_throttle_ring *own = &rings[device];
    int64_t last = to / PH_BIN_NS + 1, counted = __atomic_load_n(&own->counted_to, __ATOMIC_RELAXED), first = counted;
    if (first < last - PH_BINS / 2 || first > last + PH_BINS) first = last - PH_BINS / 2;
    if (first < last && __atomic_compare_exchange_n(&own->counted_to, &counted, last, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        int64_t held = 0;
        for (int64_t bin = first; bin < last; bin++) held += ph_throttled_elsewhere(rings, count, device, bin) ? PH_BIN_NS : 0;
        __atomic_add_fetch(&own->excuses_ns, held, __ATOMIC_RELAXED);
    }
    int64_t had = __atomic_load_n(&own->excuses_ns, __ATOMIC_RELAXED), usable, taken;
    do {
        usable = had < 0 ? 0 : had > PH_EXCUSES_MOST_NS ? PH_EXCUSES_MOST_NS : had;
        taken = wanted < usable ? wanted : usable;
    } while (!__atomic_compare_exchange_n(&own->excuses_ns, &had, usable - taken, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return taken;
}
