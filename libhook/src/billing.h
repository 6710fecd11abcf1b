/* What a batch of launches is charged, from what its two events told. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ph_facts {
    int64_t busy;     /* ns between the events, without the lead */
    int64_t expected; /* ns that its launches cost when each was measured alone */
    int launches;
    bool believed;    /* every cost in `expected` was learned */
    bool late;        /* the stream was idle when the end was recorded: the events span idle time */
    bool posted;      /* part of it was charged while it ran */
    bool contended;   /* others worked on the GPU meanwhile */
};

/* The events span more than the work where many small launches leave gaps, and where they were recorded late: then what
 * it has cost before is the bill. With others about they span their turns too, and the ring sorts that out. */
static inline int64_t ph_bill(const struct ph_facts *f) {
    int64_t most = f->expected + f->expected / 20;
    bool spans_gaps = f->late || f->launches > 1;
    return !f->posted && spans_gaps && f->believed && f->busy > most && !f->contended ? most : f->busy;
}
