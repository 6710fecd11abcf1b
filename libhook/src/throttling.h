/* When launches onto each GPU of the container were held back for the limit, told to all its processes: a kernel on one
 * GPU may do nothing but wait for a rank on another that the limiter holds, and such waiting is nobody's use. A ring of
 * quarter milliseconds for each GPU, marked by whoever holds before it sleeps; the dead leave nothing to clear. */
#pragma once

#include "activity.h"

struct ph_throttle_ring {
    uint32_t turn[PH_BINS]; /* the turn of the ring in which it was marked last, plus one; atomic */
};

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
