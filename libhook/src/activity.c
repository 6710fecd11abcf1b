#include "activity.h"

#include <stddef.h>
#include <string.h>

static uint64_t turn_of(int64_t bin) { return ((uint64_t)bin / PH_BINS) << 32; }

static void post(uint64_t *word, int64_t bin, uint32_t ns) {
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED), fresh;
    do {
        uint64_t sum = (old & ~(uint64_t)UINT32_MAX) == turn_of(bin) ? (old & UINT32_MAX) + ns : ns;
        fresh = turn_of(bin) | (sum > UINT32_MAX ? UINT32_MAX : sum);
    } while (!__atomic_compare_exchange_n(word, &old, fresh, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

static uint32_t covered(const uint64_t *bins, int64_t bin) {
    uint64_t word = __atomic_load_n(&bins[bin % PH_BINS], __ATOMIC_RELAXED);
    return (word & ~(uint64_t)UINT32_MAX) == turn_of(bin) ? (uint32_t)word : 0;
}

static void post_interval(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t from, int64_t to, bool own) {
    for (int64_t bin = from / PH_BIN_NS; bin * PH_BIN_NS < to; bin++) {
        int64_t low = bin * PH_BIN_NS, high = low + PH_BIN_NS;
        uint32_t ns = (uint32_t)((to < high ? to : high) - (from > low ? from : low));
        if (ring) post(&ring->bins[bin % PH_BINS], bin, ns);
        post(&coverage->posted.bins[bin % PH_BINS], bin, ns);
        /* A bin that was settled before this became known is charged with the oldest open one. */
        int64_t mine = bin < coverage->settled_bin ? coverage->settled_bin : bin;
        if (own) post(&coverage->own[mine % PH_BINS], mine, ns);
    }
}

int64_t ph_coverage_add(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t from, int64_t to, bool own) {
    int64_t horizon = to - (int64_t)(PH_BINS / 2) * PH_BIN_NS;
    if (from < horizon) from = horizon; /* longer than the ring: callers post long work as it goes on */
    if (to <= from || from < 0) return 0;
    int64_t added = 0, at = from;
    while (at < to) {
        int64_t next = to;
        bool inside = false;
        for (int i = 0; i < coverage->count; i++) {
            if (coverage->from[i] <= at && at < coverage->to[i]) {
                at = coverage->to[i];
                inside = true;
                break;
            }
            if (coverage->from[i] > at && coverage->from[i] < next) next = coverage->from[i];
        }
        if (inside) continue;
        post_interval(coverage, ring, at, next, own);
        added += next - at;
        at = next;
    }
    /* Join with what it touches; drop the oldest when the list is full. */
    int keep = 0, oldest = -1;
    for (int i = 0; i < coverage->count; i++) {
        if (coverage->to[i] >= from && coverage->from[i] <= to) {
            if (coverage->from[i] < from) from = coverage->from[i];
            if (coverage->to[i] > to) to = coverage->to[i];
            continue;
        }
        coverage->from[keep] = coverage->from[i];
        coverage->to[keep] = coverage->to[i];
        if (oldest < 0 || coverage->to[keep] < coverage->to[oldest]) oldest = keep;
        keep++;
    }
    if (keep == 64) {
        coverage->from[oldest] = from;
        coverage->to[oldest] = to;
    } else {
        coverage->from[keep] = from;
        coverage->to[keep++] = to;
    }
    coverage->count = keep;
    return added;
}

void ph_coverage_settle(struct ph_coverage *coverage, const struct ph_activity_ring *ring, int64_t now,
                        void (*charge)(int device, int64_t used_at, int64_t busy_ns), int device) {
    int64_t last = (now - PH_SETTLE_NS) / PH_BIN_NS; /* exclusive */
    int64_t first = coverage->settled_bin;
    if (last - first > PH_BINS - 64) first = last - (PH_BINS - 64);
    for (int64_t bin = first; bin < last; bin++) {
        uint32_t own = covered(coverage->own, bin);
        if (!own) continue;
        uint32_t total = ring ? covered(ring->bins, bin) : own;
        bool alone = total <= own || total <= PH_BIN_NS || own > PH_BIN_NS;
        charge(device, bin * PH_BIN_NS, alone ? own : (int64_t)((double)own * PH_BIN_NS / total));
        coverage->own[bin % PH_BINS] = 0;
    }
    if (last > coverage->settled_bin) coverage->settled_bin = last;
}

int64_t ph_ring_total(const struct ph_activity_ring *ring, int64_t from, int64_t to) {
    int64_t sum = 0;
    for (int64_t bin = from / PH_BIN_NS; ring && bin * PH_BIN_NS < to; bin++) sum += covered(ring->bins, bin);
    return sum;
}
