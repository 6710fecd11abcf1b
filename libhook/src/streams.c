#include "streams.h"

#include "driver.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* who is taken */
static struct ph_batch *all;        /* grows at the front; nothing is ever freed, so it is walked without the mutex */
unsigned int ph_streams_generation = 1;
__thread struct ph_stream_memory ph_stream_memory[PH_STREAMS_REMEMBERED];

struct ph_batch *ph_streams_first(void) { return __atomic_load_n(&all, __ATOMIC_ACQUIRE); }

static struct ph_batch *find(CUstream stream, CUcontext context, bool special) {
    for (struct ph_batch *b = all; b; b = b->next)
        if (b->taken && b->stream == stream && (!special || b->context == context)) return b;
    return NULL;
}

static struct ph_batch *add(CUstream stream, CUcontext context, bool special) {
    struct ph_timeline *timeline = ph_timeline_of(context);
    struct ph_batch *batch = all;
    while (batch && batch->taken) batch = batch->next;
    bool fresh = batch == NULL;
    if (!timeline || (fresh && !(batch = calloc(1, sizeof *batch)))) return NULL;
    ph_latch_take(&batch->latch);
    batch->stream = stream;
    batch->context = context;
    batch->special = special;
    batch->device = ph_current_ordinal();
    batch->timeline = timeline;
    __atomic_store_n(&batch->taken, true, __ATOMIC_RELAXED);
    ph_latch_give(&batch->latch);
    if (fresh) {
        batch->next = all;
        __atomic_store_n(&all, batch, __ATOMIC_RELEASE);
    }
    return batch;
}

struct ph_batch *ph_stream_meet(CUstream stream, CUcontext context, unsigned int generation, struct ph_stream_memory *memory) {
    bool special = ph_stream_special(stream);
    CUcontext owner = special ? context : ph_current_context();
    pthread_mutex_lock(&mutex);
    struct ph_batch *batch = find(stream, context, special);
    if (!batch && owner) batch = add(stream, owner, special);
    pthread_mutex_unlock(&mutex);
    if (batch) *memory = (struct ph_stream_memory){ stream, context, batch, generation };
    return batch;
}

void ph_streams_forget(CUstream stream) {
    pthread_mutex_lock(&mutex);
    struct ph_batch *batch = find(stream, NULL, false);
    if (batch && !batch->special) __atomic_store_n(&batch->taken, false, __ATOMIC_RELAXED);
    __atomic_add_fetch(&ph_streams_generation, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
}

void ph_streams_forget_context(CUcontext context, void (*abandon)(struct ph_batch *batch)) {
    pthread_mutex_lock(&mutex);
    for (struct ph_batch *batch = all; batch; batch = batch->next) {
        if (!batch->taken || batch->context != context) continue;
        ph_latch_take(&batch->latch);
        abandon(batch);
        __atomic_store_n(&batch->taken, false, __ATOMIC_RELAXED);
        ph_latch_give(&batch->latch);
    }
    __atomic_add_fetch(&ph_streams_generation, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
}

void ph_streams_after_fork(void) {
    pthread_mutex_init(&mutex, NULL);
    all = NULL; /* the parent's streams mean nothing here; what they occupied is left alone */
    __atomic_add_fetch(&ph_streams_generation, 1, __ATOMIC_RELEASE);
}
