#include "streams.h"

#include "device.h"
#include "locks.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };
static struct ph_mutex mutex = PH_MUTEX(STREAMS); /* who is taken */
static struct ph_batch *all;        /* grows at the front; nothing is ever freed, so it is walked without the mutex */
unsigned int ph_streams_generation = 1;
__thread struct ph_stream_memory ph_stream_memory[PH_STREAMS_REMEMBERED];
__thread struct ph_current ph_current;

struct ph_batch *ph_streams_first(void) { return __atomic_load_n(&all, __ATOMIC_ACQUIRE); }

static struct ph_batch *buckets[BUCKETS];

static struct ph_batch **bucket_of(CUstream stream, CUcontext context) {
    uint64_t mixed = ((uint64_t)(uintptr_t)stream ^ (uint64_t)(uintptr_t)context * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    return &buckets[(mixed >> 40) & (BUCKETS - 1)];
}

static bool is(const struct ph_batch *b, CUstream stream, CUcontext context, const void *owner) {
    return __atomic_load_n(&b->taken, __ATOMIC_ACQUIRE) && __atomic_load_n(&b->stream, __ATOMIC_RELAXED) == stream &&
           (!context || __atomic_load_n(&b->context, __ATOMIC_RELAXED) == context) &&
           __atomic_load_n(&b->owner, __ATOMIC_RELAXED) == owner;
}

/* `context`: of a special stream, else NULL. Without the mutex: what is in a bucket stays there. */
static struct ph_batch *find(CUstream stream, CUcontext context, const void *owner) {
    struct ph_batch *b = __atomic_load_n(bucket_of(stream, context), __ATOMIC_ACQUIRE);
    while (b && !is(b, stream, context, owner)) b = __atomic_load_n(&b->in_bucket, __ATOMIC_ACQUIRE);
    return b;
}

static int ordinal_of(CUcontext context) {
    CUcontext current = ph_current_context();
    if (ph_device_count <= 1 || context == current || !ph_driver.cuCtxPushCurrent_v2 || PH_ASK(cuCtxPushCurrent_v2)(context) != CUDA_SUCCESS)
        return ph_current_ordinal();
    int ordinal = ph_current_ordinal();
    PH_ASK(cuCtxPopCurrent_v2)(&current);
    return ordinal;
}

/* A stream's own context: a program may use a stream while another context is current, and streams of green contexts
 * never have the current one. Drivers before 9.2 do not tell. */
static CUcontext context_of(CUstream stream) {
    CUcontext context = NULL;
    if (ph_driver.cuStreamGetCtx && PH_ASK(cuStreamGetCtx)(stream, &context) == CUDA_SUCCESS && context) return context;
    return ph_current_context();
}

static struct ph_batch *add(CUstream stream, CUcontext context, CUcontext owning, const void *owner) {
    struct ph_timeline *timeline = ph_timeline_of(owning);
    struct ph_batch **bucket = bucket_of(stream, context), *batch = *bucket;
    while (batch && __atomic_load_n(&batch->taken, __ATOMIC_RELAXED)) batch = batch->in_bucket;
    bool fresh = batch == NULL;
    if (!timeline || (fresh && !(batch = calloc(1, sizeof *batch)))) return NULL;
    __atomic_store_n(&batch->stream, stream, __ATOMIC_RELAXED);
    __atomic_store_n(&batch->context, owning, __ATOMIC_RELAXED);
    __atomic_store_n(&batch->owner, owner, __ATOMIC_RELAXED);
    batch->special = context != NULL;
    batch->device = ordinal_of(owning);
    batch->timeline = timeline;
    __atomic_store_n(&batch->taken, true, __ATOMIC_RELEASE);
    if (fresh) {
        batch->in_bucket = *bucket;
        batch->next = all;
        __atomic_store_n(bucket, batch, __ATOMIC_RELEASE);
        __atomic_store_n(&all, batch, __ATOMIC_RELEASE);
    }
    return batch;
}

struct ph_batch *ph_stream_meet(CUstream stream, CUcontext context, unsigned int generation, struct ph_stream_memory *memory) {
    bool special = ph_stream_special(stream);
    const void *owner = stream == CU_STREAM_PER_THREAD ? ph_stream_memory : NULL;
    if (special && !context) return NULL;
    struct ph_batch *batch = find(stream, context, owner);
    if (!batch) {
        CUcontext owning = special ? context : context_of(stream); /* the driver is asked before the mutex is taken */
        ph_mutex_lock(&mutex);
        batch = find(stream, context, owner);
        if (!batch && owning) batch = add(stream, context, owning, owner);
        ph_mutex_unlock(&mutex);
    }
    if (batch) *memory = (struct ph_stream_memory){ stream, context, batch, generation };
    return batch;
}

int64_t ph_streams_open_since(int device) {
    int64_t earliest = INT64_MAX;
    for (struct ph_batch *batch = ph_streams_first(); batch; batch = batch->next) {
        int64_t since = ph_batch_open(batch);
        if (since && since < earliest && (device < 0 || batch->device == device)) earliest = since;
    }
    return earliest;
}

static void forget(struct ph_batch *batch, void (*abandon)(struct ph_batch *batch)) {
    ph_futex_lock_acquire(&batch->lock);
    abandon(batch);
    __atomic_store_n(&batch->taken, false, __ATOMIC_RELEASE);
    ph_futex_lock_release(&batch->lock);
}

void ph_streams_forget(CUstream stream, void (*abandon)(struct ph_batch *batch)) {
    ph_mutex_lock(&mutex);
    struct ph_batch *batch = ph_stream_special(stream) ? NULL : find(stream, NULL, NULL);
    if (batch) forget(batch, abandon);
    __atomic_add_fetch(&ph_streams_generation, 1, __ATOMIC_RELEASE);
    ph_mutex_unlock(&mutex);
}

void ph_streams_forget_context(CUcontext context, void (*abandon)(struct ph_batch *batch)) {
    ph_mutex_lock(&mutex);
    for (struct ph_batch *batch = all; batch; batch = batch->next)
        if (batch->taken && batch->context == context) forget(batch, abandon);
    __atomic_add_fetch(&ph_streams_generation, 1, __ATOMIC_RELEASE);
    ph_mutex_unlock(&mutex);
}

void ph_streams_after_fork(void) {
    ph_mutex_after_fork(&mutex);
    memset(buckets, 0, sizeof buckets);
    all = NULL; /* the parent's streams mean nothing here; what they occupied is left alone */
    __atomic_add_fetch(&ph_streams_generation, 1, __ATOMIC_RELEASE);
}
