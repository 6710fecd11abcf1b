#include "activity.h"

#include <stddef.h>
#include <string.h>

enum { SIXTEENTHS = 16, SUM_BITS = 24, TURN_BITS = 40 };
static const uint64_t SUM = (1u << SUM_BITS) - 1; /* the turn has as many bits */

static uint64_t turn_of(int64_t bin) { return (uint64_t)bin / PH_BINS; }

/* Words that count ns in their low half and carry the turn in their high half. */
static uint32_t amount(const uint64_t *word, int64_t bin) {
    uint64_t value = __atomic_load_n(word, __ATOMIC_RELAXED);
    return value >> 32 == (uint32_t)turn_of(bin) ? (uint32_t)value : 0;
}

/* Adds at most what is missing to `ceiling`; returns how much that was. */
static uint32_t add_amount(uint64_t *word, int64_t bin, uint32_t ns, uint32_t ceiling) {
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    uint32_t had, taken;
    do {
        had = old >> 32 == (uint32_t)turn_of(bin) ? (uint32_t)old : 0;
        taken = had >= ceiling ? 0 : ceiling - had < ns ? ceiling - had : ns;
    } while (!__atomic_compare_exchange_n(word, &old, turn_of(bin) << 32 | (had + taken), 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return taken;
}

static uint64_t of_bin(uint64_t word, int64_t bin) { return word >> TURN_BITS == (turn_of(bin) & SUM) ? word : 0; }

static uint64_t posted(const struct ph_activity_ring *ring, int64_t bin) {
    return of_bin(__atomic_load_n(&ring->bins[bin % PH_BINS].posted, __ATOMIC_RELAXED), bin);
}

static uint32_t covered(uint64_t word) { return (uint32_t)(word & SUM); }

/* ns of the bin in which somebody was busy, to a sixteenth */
static uint32_t busy(uint64_t word) {
    return (uint32_t)__builtin_popcountll(word & (uint64_t)0xffff << SUM_BITS) * (PH_BIN_NS / SIXTEENTHS);
}

uint64_t ph_posted_together(uint64_t sum, uint64_t more, int64_t bin) {
    sum = of_bin(sum, bin);
    more = of_bin(more, bin);
    uint64_t ns = (sum & SUM) + (more & SUM);
    return (turn_of(bin) & SUM) << TURN_BITS | ((sum | more) & (uint64_t)0xffff << SUM_BITS) | (ns > SUM ? SUM : ns);
}

/* The bits of those that [from, to) of a bin touches. */
static uint64_t sixteenths(uint32_t from, uint32_t to) {
    uint32_t first = from * SIXTEENTHS / PH_BIN_NS, last = (to - 1) * SIXTEENTHS / PH_BIN_NS;
    return ((2ull << last) - (1ull << first)) << SUM_BITS;
}

/* `ns` somewhere in [from, to) of a bin, both in ns from its start */
static void post(struct ph_activity_ring *ring, int64_t bin, uint32_t from, uint32_t to, uint32_t ns) {
    uint64_t *word = &ring->bins[bin % PH_BINS].posted, old = __atomic_load_n(word, __ATOMIC_RELAXED), fresh;
    uint64_t touched = sixteenths(from, to);
    do {
        uint64_t had = old >> TURN_BITS == (turn_of(bin) & SUM) ? old : (turn_of(bin) & SUM) << TURN_BITS;
        uint64_t sum = (had & SUM) + ns;
        fresh = ((had | touched) & ~SUM) | (sum > SUM ? SUM : sum);
    } while (!__atomic_compare_exchange_n(word, &old, fresh, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

/* Posts `ns` in [from, to) of a bin, as far as this process was not busy already whenever it was busy at all. */
static void post_own(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t bin, uint32_t from, uint32_t to, int64_t ns, bool own) {
    uint64_t word = posted(&coverage->posted, bin);
    uint32_t had = covered(word), most = busy(word | sixteenths(from, to)), room = had < most ? most - had : 0;
    uint32_t taken = ns < room ? (uint32_t)ns : room;
    if (!taken) return;
    if (ring) post(ring, bin, from, to, taken);
    post(&coverage->posted, bin, from, to, taken);
    if (own) add_amount(&coverage->own[bin % PH_BINS], bin, taken, PH_BIN_NS);
    if (own && bin < coverage->settle_from) coverage->settle_from = bin; /* settled before this became known */
}

static void post_interval(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t from, int64_t to, int64_t busy_ns, bool own) {
    int64_t left = busy_ns;
    for (int64_t bin = from / PH_BIN_NS; bin * PH_BIN_NS < to; bin++) {
        int64_t low = bin * PH_BIN_NS;
        uint32_t first = (uint32_t)(from > low ? from - low : 0), last = (uint32_t)(to - low < PH_BIN_NS ? to - low : PH_BIN_NS);
        int64_t ns = low + PH_BIN_NS >= to ? left : (int64_t)((double)busy_ns * (last - first) / (double)(to - from));
        post_own(coverage, ring, bin, first, last, ns, own);
        left -= ns;
    }
}

void ph_coverage_spread(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t from, int64_t to, int64_t busy_ns) {
    int64_t horizon = to - (int64_t)(PH_BINS / 2) * PH_BIN_NS;
    if (from < horizon) from = horizon;
    if (to > from && from >= 0) post_interval(coverage, ring, from, to, busy_ns < to - from ? busy_ns : to - from, true);
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
        post_interval(coverage, ring, at, next, next - at, own);
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

void ph_coverage_settle(struct ph_coverage *coverage, struct ph_activity_ring *ring, const struct ph_activity_ring *others, int64_t now,
                        void (*charge)(int device, int64_t used_at, int64_t busy_ns), int device) {
    int64_t last = (now - PH_SETTLE_NS) / PH_BIN_NS; /* exclusive */
    int64_t first = coverage->settle_from;
    if (last - first > PH_BINS - 64) first = last - (PH_BINS - 64);
    for (int64_t bin = first; bin < last; bin++) {
        uint32_t own = amount(&coverage->own[bin % PH_BINS], bin);
        if (!own) continue;
        coverage->own[bin % PH_BINS] = 0;
        if (ring) {
            uint64_t container = posted(ring, bin), everybody = others ? ph_posted_together(container, posted(others, bin), bin) : container;
            uint64_t all = covered(everybody), used = busy(everybody), part = used;
            if (all > used) {
                own = (uint32_t)(own * used / all);
                part = covered(container) * used / all;
            }
            own = add_amount(&ring->bins[bin % PH_BINS].charged, bin, own, (uint32_t)part);
        }
        charge(device, bin * PH_BIN_NS, own);
    }
    if (last > coverage->settle_from) coverage->settle_from = last;
}

int64_t ph_coverage_unsettled(const struct ph_coverage *coverage, int64_t now) {
    int64_t sum = 0, first = coverage->settle_from, last = now / PH_BIN_NS;
    if (last - first > PH_BINS - 64) first = last - (PH_BINS - 64);
    for (int64_t bin = first; bin <= last; bin++) sum += amount(&coverage->own[bin % PH_BINS], bin);
    return sum;
}

int64_t ph_ring_total(const struct ph_activity_ring *ring, int64_t from, int64_t to) {
    int64_t sum = 0;
    for (int64_t bin = from / PH_BIN_NS; ring && bin * PH_BIN_NS < to; bin++) sum += covered(posted(ring, bin));
    return sum;
}
