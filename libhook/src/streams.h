/* The streams that were launched on, each with the batch that is open on it. */
#pragma once

#include "costs.h"
#include "driver.h"
#include "futex_lock.h"
#include "timeline.h"

/* Launches between two events. */
struct ph_work {
    CUevent start;
    int launches;
    int64_t estimate;     /* ns */
    int64_t unannounced;  /* ns of it that ph_in_flight does not hold yet */
    bool believed;        /* every cost in it has been learned */
    bool unmeasured;      /* one has never been measured */
    struct ph_cost *only; /* of the launch, if it is one */
    CUevent end;          /* recorded after every launch on a per-thread stream, else NULL until it is closed */
    int64_t opened_at, closed_at;
    int64_t lead;         /* ns the GPU waited between the start event and the first launch */
};
/* Lock order and what may be called under which lock: docs/explanation/how-the-hook-limits.md. */
struct ph_batch {
    struct ph_futex_lock lock; /* held while a launch is made: only launches onto the same stream wait for it, as they would
                            * for the driver; others try, and leave `close` behind */
    struct ph_batch *next, *in_bucket;
    CUcontext context; /* the stream's; these six are constant while taken */
    CUstream stream;
    bool special;      /* NULL, legacy or per-thread: the handle alone does not name it */
    const void *owner; /* of a per-thread stream: the thread, else NULL */
    int device;
    struct ph_timeline *timeline;
    bool taken;   /* these five are atomic: looked at without the lock */
    bool close;   /* whoever holds the lock shall close the batch */
    int64_t open; /* since when; 0 = closed */
    int pending;  /* closed and not yet measured; 0 when opening: the stream was idle */
    int queued;   /* launches of those, and of the open one */
    bool was_idle;
    struct ph_work work;
};
/* What a thread remembers of the streams it launched on. */
enum { PH_STREAMS_REMEMBERED = 256 }; /* 8 KiB a thread: a program with some hundred streams costs what one with few does */
struct ph_stream_memory {
    CUstream stream;
    CUcontext context; /* of a special stream, else NULL */
    struct ph_batch *batch;
    unsigned int generation;
};
extern __thread struct ph_stream_memory ph_stream_memory[PH_STREAMS_REMEMBERED];
extern unsigned int ph_streams_generation; /* invalidates the memories; atomic */
struct ph_batch *ph_stream_meet(CUstream stream, CUcontext context, unsigned int generation, struct ph_stream_memory *memory);

/* The thread's current context, as far as the calls that change it were seen. One that changed unseen (by the driver's
 * private tables) is noticed when the next batch is opened. */
extern __thread struct ph_current {
    CUcontext context;
    unsigned int generation; /* of ph_streams_generation; any other: not known */
} ph_current;
static inline void ph_current_changes(void) { ph_current.generation = 0; }
static inline CUcontext ph_current_followed(unsigned int generation) {
    if (PH_UNLIKELY(ph_current.generation != generation)) ph_current = (struct ph_current){ ph_current_context(), generation };
    return ph_current.context;
}

static inline bool ph_stream_special(CUstream stream) {
    return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

/* The stream's; made when it is met. NULL without a current context or memory. */
static inline struct ph_batch *ph_stream_of(CUstream stream, bool per_thread) {
    if (stream == NULL && per_thread) stream = CU_STREAM_PER_THREAD;
    unsigned int generation = __atomic_load_n(&ph_streams_generation, __ATOMIC_ACQUIRE);
    CUcontext context = ph_stream_special(stream) ? ph_current_followed(generation) : NULL;
    uint64_t mixed = (uint64_t)(uintptr_t)stream * 0x9e3779b97f4a7c15u;
    struct ph_stream_memory *memory = &ph_stream_memory[(mixed >> 40) % PH_STREAMS_REMEMBERED];
    if (PH_LIKELY(memory->generation == generation && memory->stream == stream && memory->context == context)) return memory->batch;
    return ph_stream_meet(stream, context, generation, memory);
}
/* Every batch there ever was: `for (struct ph_batch *b = ph_streams_first(); b; b = b->next)`. */
struct ph_batch *ph_streams_first(void);
int64_t ph_streams_open_since(int device); /* of the batch open longest; INT64_MAX: none is. -1 = of any device */
/* Streams end. `abandon` is called with the batch's lock held. */
void ph_streams_forget(CUstream stream, void (*abandon)(struct ph_batch *batch));
void ph_streams_forget_context(CUcontext context, void (*abandon)(struct ph_batch *batch));
void ph_streams_after_fork(void);

/* Since when it is open; 0 = closed. */
static inline int64_t ph_batch_open(const struct ph_batch *batch) {
    return __atomic_load_n(&batch->taken, __ATOMIC_RELAXED) ? __atomic_load_n(&batch->open, __ATOMIC_RELAXED) : 0;
}
