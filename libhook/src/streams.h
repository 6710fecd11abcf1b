/* The streams that were launched on, each with the batch that is open on it. */
#pragma once

#include "costs.h"
#include "timeline.h"

#include <pthread.h>

/* Launches between two events. */
struct ph_work {
    CUevent start;
    int launches;
    int64_t estimate;     /* ns */
    bool believed;        /* every cost in it has been learned */
    struct ph_cost *only; /* of the launch, if it is one */
    int64_t opened_at;
    int64_t lead;         /* ns the GPU waited between the start event and the first launch */
};
/* Lock order: the streams' mutex, a batch's mutex, then the leaves (timelines, the queue of measurements). */
struct ph_batch {
    pthread_mutex_t mutex;
    struct ph_batch *next;
    CUcontext context; /* these five are constant while taken */
    CUstream stream;
    bool special; /* NULL, legacy or per-thread: the handle alone does not name it */
    int device;
    struct ph_timeline *timeline;
    bool taken;   /* these three are atomic: looked at without the mutex */
    bool open;
    int pending;  /* closed and not yet measured; 0 when opening: the stream was idle */
    bool was_idle;
    struct ph_work work;
};
/* The stream's; made when it is met. NULL without a current context or memory. */
struct ph_batch *ph_stream_of(CUstream stream, bool per_thread);
/* Every batch there ever was: `for (struct ph_batch *b = ph_streams_first(); b; b = b->next)`. */
struct ph_batch *ph_streams_first(void);
/* Streams end. `abandon` is called with the batch's mutex held, for each of a dying context. */
void ph_streams_forget(CUstream stream);
void ph_streams_forget_context(CUcontext context, void (*abandon)(struct ph_batch *batch));
void ph_streams_after_fork(void);

static inline bool ph_batch_open(const struct ph_batch *batch) {
    return __atomic_load_n(&batch->taken, __ATOMIC_RELAXED) && __atomic_load_n(&batch->open, __ATOMIC_RELAXED);
}
