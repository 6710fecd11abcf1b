/* When the GPU worked for us, and who else it worked for meanwhile.
 *
 * Measured intervals of one process are merged (two streams at once are busy once). Their coverage is posted
 * per millisecond quarter into a ring that all processes of the container share, and that other containers may read
 * (co_tenants.h). Contexts of different processes are time-sliced: an interval measured by events holds other contexts'
 * slices too. So a quarter is charged only after everybody has had time to post: each pays own coverage × busy / total
 * coverage when the total exceeds the time that somebody was busy. The processes of a container together never pay for
 * more than its part, whoever comes late; what other containers say they have paid is not believed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    PH_BIN_NS = 250000,
    PH_BINS = 4096, /* about a second */
    PH_SETTLE_NS = 5000000, /* longer than the slowest honest post: 2 ms of waiting and two ticks */
};

struct ph_activity_ring {
    struct ph_activity_bin {
        /* Bits 0-23: covered ns, all contexts together (67 of them fit); 24-39: sixteenths of the quarter in which
         * somebody was busy; 40-63: which turn of the ring. */
        uint64_t posted;
        uint64_t charged; /* bits 0-31: ns that somebody has paid; 32-63: turn */
    } bins[PH_BINS];
};
struct ph_coverage {
    int64_t from[64], to[64]; /* disjoint, recent; in no order */
    int count;
    uint64_t own[PH_BINS];    /* to be charged: ns of each bin in bits 0-31, the turn above */
    struct ph_activity_ring posted; /* everything this process has posted */
    int64_t settle_from;      /* every bin before it has been charged */
};

/* Adds [from, to); returns ns not covered before, and posts them to `ring` (may be NULL) and to `own`. */
int64_t ph_coverage_add(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t from, int64_t to, bool own);
/* `busy_ns` of [from, to), nobody knows when: launches with gaps between them. Evenly, and never more than all of a bin
 * together with what other streams had of it. */
void ph_coverage_spread(struct ph_coverage *coverage, struct ph_activity_ring *ring, int64_t from, int64_t to, int64_t busy_ns);
/* Hands `charge` the own GPU ns of every bin that ended before now - PH_SETTLE_NS and was not settled yet. `others`: what
 * other containers have posted; may be NULL. */
void ph_coverage_settle(struct ph_coverage *coverage, struct ph_activity_ring *ring, const struct ph_activity_ring *others, int64_t now,
                        void (*charge)(int device, int64_t used_at, int64_t busy_ns), int device);
/* ns of `own` coverage that wait to be charged. */
int64_t ph_coverage_unsettled(const struct ph_coverage *coverage, int64_t now);
/* ns of coverage in the ring during [from, to). */
int64_t ph_ring_total(const struct ph_activity_ring *ring, int64_t from, int64_t to);
/* The word `sum` of a bin with another ring's word `more` added, where that is of the same bin. */
uint64_t ph_posted_together(uint64_t sum, uint64_t more, int64_t bin);
