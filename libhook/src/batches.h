/* The batch that is open on each stream: launches, and what orders the stream differently. */
#pragma once

#include "streams.h"

struct ph_launch {
    struct ph_batch *batch;
    struct ph_cost *cost;
    bool alone; /* measured by itself, to learn its cost */
};
/* Around a launch; where the first is false, the launch is neither measured nor limited, and there is no second. The
 * batch's lock is held from one to the other. */
bool ph_launch_begin(struct ph_launch *launch, CUstream stream, bool per_thread, const void *key, uint64_t size);
void ph_launch_end(struct ph_launch *launch, bool queued);
void ph_before_order(CUstream stream, bool per_thread);
void ph_after_wait(void);

void ph_batches_close(const struct ph_batch *own);
void ph_batches_close_quiet(int64_t now);
void ph_batches_forget_stream(CUstream stream);    /* before it is destroyed */
void ph_batches_forget_context(CUcontext context); /* before it is destroyed: its events die with it */
void ph_batches_after_fork(void);
