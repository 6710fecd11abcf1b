#include "streams.h"

#include "driver.h"

#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* who is taken */
static struct ph_batch *all;        /* grows at the front; nothing is ever freed, so it is walked without the mutex */
static unsigned int generation = 1; /* invalidates the threads' memories */

enum { REMEMBERED = 16 };
static __thread struct {
    CUstream stream;
    CUcontext context;
    struct ph_batch *batch;
    unsigned int generation;
} memory[REMEMBERED];

struct ph_batch *ph_streams_first(void) { return __atomic_load_n(&all, __ATOMIC_ACQUIRE); }

static bool is_special(CUstream stream) {
    return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

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
    if (fresh) pthread_mutex_init(&batch->mutex, NULL);
    pthread_mutex_lock(&batch->mutex);
    batch->stream = stream;
    batch->context = context;
    batch->special = special;
    batch->device = ph_current_ordinal();
    batch->timeline = timeline;
    __atomic_store_n(&batch->taken, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&batch->mutex);
    if (fresh) {
        batch->next = all;
        __atomic_store_n(&all, batch, __ATOMIC_RELEASE);
    }
    return batch;
}

struct ph_batch *ph_stream_of(CUstream stream, bool per_thread) {
    if (stream == NULL && per_thread) stream = CU_STREAM_PER_THREAD;
    bool special = is_special(stream);
    CUcontext context = special ? ph_current_context() : NULL;
    unsigned int now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    size_t at = ((uintptr_t)stream >> 4 ^ (uintptr_t)stream >> 12) % REMEMBERED;
    if (memory[at].generation == now && memory[at].stream == stream && memory[at].context == context) return memory[at].batch;
    CUcontext owner = special ? context : ph_current_context();
    pthread_mutex_lock(&mutex);
    struct ph_batch *batch = find(stream, context, special);
    if (!batch && owner) batch = add(stream, owner, special);
    pthread_mutex_unlock(&mutex);
    if (batch) {
        memory[at].stream = stream;
        memory[at].context = context;
        memory[at].batch = batch;
        memory[at].generation = now;
    }
    return batch;
}

void ph_streams_forget(CUstream stream) {
    pthread_mutex_lock(&mutex);
    struct ph_batch *batch = find(stream, NULL, false);
    if (batch && !batch->special) __atomic_store_n(&batch->taken, false, __ATOMIC_RELAXED);
    __atomic_add_fetch(&generation, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
}

void ph_streams_forget_context(CUcontext context, void (*abandon)(struct ph_batch *batch)) {
    pthread_mutex_lock(&mutex);
    for (struct ph_batch *batch = all; batch; batch = batch->next) {
        if (!batch->taken || batch->context != context) continue;
        pthread_mutex_lock(&batch->mutex);
        abandon(batch);
        __atomic_store_n(&batch->taken, false, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&batch->mutex);
    }
    __atomic_add_fetch(&generation, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
}

void ph_streams_after_fork(void) {
    pthread_mutex_init(&mutex, NULL);
    all = NULL; /* the parent's streams mean nothing here; what they occupied is left alone */
    __atomic_add_fetch(&generation, 1, __ATOMIC_RELEASE);
}
