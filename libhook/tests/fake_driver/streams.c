/* Streams, events, launches. Streams of one context run side by side; contexts take turns (scheduler.c). */
#define _GNU_SOURCE
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fk_event {
    struct fk_context *context;
    int64_t target;   /* service time it completes at; -1: never recorded */
    int64_t recorded; /* global time of the record */
    int64_t done;     /* global time of completion, once asked for; the machine forgets after a while */
    struct fk_stream *gated; /* recorded behind a gate there, and not reached yet */
};

struct fk_stream *fk_stream_of(CUstream handle, bool per_thread) {
    static __thread struct fk_stream own;
    if (handle == CU_STREAM_PER_THREAD || (handle == NULL && per_thread)) {
        if (own.context != fk_current) memset(&own, 0, sizeof own);
        own.context = fk_current;
        own.blocking = true;
        return &own;
    }
    if (handle == NULL || handle == CU_STREAM_LEGACY) {
        static __thread struct fk_stream legacy; /* a view of the context's own tail */
        if (legacy.context != fk_current) memset(&legacy, 0, sizeof legacy);
        legacy.context = fk_current;
        legacy.tail = fk_current ? fk_current->legacy_tail : 0;
        return &legacy;
    }
    return (struct fk_stream *)handle;
}

bool fk_is_legacy(CUstream handle, bool per_thread) {
    return handle == CU_STREAM_LEGACY || (handle == NULL && !per_thread);
}

CUresult fk_run(CUstream handle, bool per_thread, int64_t ns) {
    struct fk_stream *stream = fk_stream_of(handle, per_thread);
    if (!stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult refused = fk_is_legacy(handle, per_thread) ? fk_legacy_used(stream->context) : CUDA_SUCCESS;
    if (refused) return refused;
    if (fk_gated(stream)) {
        fk_gate_kernel(stream, ns);
        return CUDA_SUCCESS;
    }
    int64_t *end = &stream->ends[stream->launches++ % FK_QUEUE];
    if (*end > 0) fg_wait_served(stream->context->gpu, *end);
    *end = stream->tail = fg_submit(stream->context->gpu, stream->tail, ns);
    if (fk_is_legacy(handle, per_thread)) stream->context->legacy_tail = stream->tail;
    return CUDA_SUCCESS;
}

int64_t fk_duration(CUfunction function, void **parameters) {
    int64_t ns = *(const int64_t *)(const void *)function;
    return ns >= 0 ? ns : parameters ? *(const int64_t *)parameters[0] : 10000;
}
static bool holds(CUfunction function) { return *(const int64_t *)(const void *)function == -2; }
static bool meets(CUfunction function) { return *(const int64_t *)(const void *)function == -3; }

static CUresult launch(const struct fk_call *call, CUstream handle, int64_t ns) {
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (stream->capture) {
        struct fk_node *node = fk_add_node(stream->capture);
        node->type = CU_GRAPH_NODE_TYPE_KERNEL;
        node->ns = ns;
        return CUDA_SUCCESS;
    }
    return fk_run(handle, call->per_thread, ns);
}

CUresult fk_cuLaunchKernel(const struct fk_call *call, CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                           unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **parameters, void **extra) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)extra;
    if (!f) return CUDA_ERROR_INVALID_HANDLE;
    if (holds(f)) {
        fk_gate_hold(fk_stream_of(stream, call->per_thread), *(volatile int **)parameters[0]);
        return CUDA_SUCCESS;
    }
    if (meets(f)) {
        fk_gate_meet(fk_stream_of(stream, call->per_thread), *(volatile int **)parameters[0], *(const int64_t *)parameters[1]);
        return CUDA_SUCCESS;
    }
    return launch(call, stream, fk_duration(f, parameters));
}
CUresult fk_cuLaunchKernelEx(const struct fk_call *call, const CUlaunchConfig *config, CUfunction f, void **parameters, void **extra) {
    (void)extra;
    return f && config ? launch(call, config->hStream, fk_duration(f, parameters)) : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuLaunchCooperativeKernel(const struct fk_call *call, CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                      unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream stream,
                                      void **parameters) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared;
    return launch(call, stream, fk_duration(f, parameters));
}
CUresult fk_cuLaunch(const struct fk_call *call, CUfunction f) { return launch(call, NULL, fk_duration(f, NULL)); }
CUresult fk_cuLaunchGrid(const struct fk_call *call, CUfunction f, int width, int height) {
    (void)width, (void)height;
    return launch(call, NULL, fk_duration(f, NULL));
}
CUresult fk_cuLaunchGridAsync(const struct fk_call *call, CUfunction f, int width, int height, CUstream stream) {
    (void)width, (void)height;
    return launch(call, stream, fk_duration(f, NULL));
}

/* Streams */

CUresult fk_cuStreamCreate(const struct fk_call *call, CUstream *stream, unsigned int flags) {
    (void)call;
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    struct fk_stream *fresh = calloc(1, sizeof *fresh);
    fresh->context = fk_current;
    fresh->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    fg_mutex_lock(&fk_mutex);
    fresh->next = fk_current->streams;
    fk_current->streams = fresh;
    fg_mutex_unlock(&fk_mutex);
    *stream = (CUstream)fresh;
    return CUDA_SUCCESS;
}
CUresult fk_cuStreamCreateWithPriority(const struct fk_call *call, CUstream *stream, unsigned int flags, int priority) {
    (void)priority;
    return fk_cuStreamCreate(call, stream, flags);
}
CUresult fk_cuStreamDestroy_v2(const struct fk_call *call, CUstream handle) {
    (void)call;
    struct fk_stream *stream = (struct fk_stream *)handle;
    fg_mutex_lock(&fk_mutex);
    struct fk_stream **link = &stream->context->streams;
    while (*link && *link != stream) link = &(*link)->next;
    if (*link) *link = stream->next;
    fg_mutex_unlock(&fk_mutex);
    free(stream);
    return CUDA_SUCCESS;
}
CUresult fk_cuStreamGetCtx(const struct fk_call *call, CUstream handle, CUcontext *context) {
    *context = (CUcontext)fk_stream_of(handle, call->per_thread)->context;
    return *context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult fk_cuStreamSynchronize(const struct fk_call *call, CUstream handle) {
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (!stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    if (stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    CUresult refused = fk_asked();
    if (refused) return refused;
    fk_wait_ungated(stream);
    fg_wait_served(stream->context->gpu, stream->tail);
    fk_pools_settle();
    return CUDA_SUCCESS;
}
CUresult fk_cuStreamQuery(const struct fk_call *call, CUstream handle) {
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (!stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult refused = fk_asked();
    if (refused) return refused;
    if (fk_gated(stream)) return CUDA_ERROR_NOT_READY;
    return fg_context_served(stream->context->gpu) >= stream->tail ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
static int64_t last_tail(const struct fk_context *context) {
    int64_t tail = context->legacy_tail;
    fg_mutex_lock(&fk_mutex);
    for (const struct fk_stream *s = context->streams; s; s = s->next)
        if (s->tail > tail) tail = s->tail;
    fg_mutex_unlock(&fk_mutex);
    return tail;
}
CUresult fk_cuCtxSynchronize(const struct fk_call *call) {
    (void)call;
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult refused = fk_asked();
    if (refused) return refused;
    for (struct fk_stream *s = fk_current->streams; s; s = s->next) fk_wait_ungated(s);
    fg_wait_served(fk_current->gpu, last_tail(fk_current));
    fk_pools_settle();
    return CUDA_SUCCESS;
}
CUresult fk_cuStreamWaitEvent(const struct fk_call *call, CUstream handle, CUevent event, unsigned int flags) {
    (void)flags;
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    const struct fk_event *e = (const struct fk_event *)event;
    if (e->context == stream->context && e->target > stream->tail) stream->tail = e->target;
    return CUDA_SUCCESS;
}
/* Copies take no time of the kernels' engine; synchronous ones wait for the legacy stream. */
static CUresult copied(const struct fk_call *call) {
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    (void)call;
    fg_wait_served(fk_current->gpu, last_tail(fk_current));
    return CUDA_SUCCESS;
}
CUresult fk_cuMemcpyDtoH_v2(const struct fk_call *call, void *to, CUdeviceptr from, size_t bytes) {
    (void)to, (void)from, (void)bytes;
    return copied(call);
}
CUresult fk_cuMemcpyHtoD_v2(const struct fk_call *call, CUdeviceptr to, const void *from, size_t bytes) {
    (void)to, (void)from, (void)bytes;
    return copied(call);
}
CUresult fk_cuMemcpyDtoHAsync_v2(const struct fk_call *call, void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    (void)call, (void)to, (void)from, (void)bytes, (void)stream;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemcpyHtoDAsync_v2(const struct fk_call *call, CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    (void)call, (void)to, (void)from, (void)bytes, (void)stream;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemsetD8_v2(const struct fk_call *call, CUdeviceptr to, unsigned char value, size_t bytes) {
    (void)call, (void)to, (void)value, (void)bytes;
    return CUDA_SUCCESS;
}

/* Events */

CUresult fk_cuEventCreate(const struct fk_call *call, CUevent *event, unsigned int flags) {
    (void)call, (void)flags;
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    struct fk_event *fresh = malloc(sizeof *fresh);
    *fresh = (struct fk_event){ .context = fk_current, .target = -1 };
    *event = (CUevent)fresh;
    return CUDA_SUCCESS;
}
void fk_record_now(struct fk_event *e, struct fk_stream *stream) {
    e->target = stream->tail;
    e->recorded = fg_now();
    e->done = 0;
    __atomic_store_n(&e->gated, NULL, __ATOMIC_RELAXED);
}
CUresult fk_cuEventRecord(const struct fk_call *call, CUevent event, CUstream handle) {
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    struct fk_event *e = (struct fk_event *)event;
    if (!stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    if (e->context != stream->context) return CUDA_ERROR_INVALID_HANDLE;
    CUresult refused = fk_is_legacy(handle, call->per_thread) ? fk_legacy_used(stream->context) : CUDA_SUCCESS;
    if (refused) return refused;
    if (stream->capture) {
        if (getenv("FAKE_CUDA_STRICT")) fprintf(stderr, "[fake driver] an event was recorded into a capture\n");
        return CUDA_SUCCESS;
    }
    if (fk_gated(stream)) {
        __atomic_store_n(&e->gated, stream, __ATOMIC_RELAXED);
        fk_gate_record(stream, e);
    } else {
        fk_record_now(e, stream);
    }
    return CUDA_SUCCESS;
}
static bool finished(struct fk_event *e) {
    struct fk_stream *gated = __atomic_load_n(&e->gated, __ATOMIC_RELAXED);
    if (gated && fk_gated(gated) && __atomic_load_n(&e->gated, __ATOMIC_RELAXED)) return false;
    if (e->target < 0 || e->done) return true;
    if (fg_context_served(e->context->gpu) < e->target) return false;
    e->done = fg_time_of(e->context->gpu, e->target, e->recorded);
    return true;
}
CUresult fk_cuEventQuery(const struct fk_call *call, CUevent event) {
    (void)call;
    CUresult refused = fk_asked();
    if (refused) return refused;
    return finished((struct fk_event *)event) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
CUresult fk_cuEventSynchronize(const struct fk_call *call, CUevent event) {
    (void)call;
    struct fk_event *e = (struct fk_event *)event;
    CUresult refused = fk_asked();
    if (refused) return refused;
    while (!finished(e) && __atomic_load_n(&e->gated, __ATOMIC_RELAXED)) fg_wait_until(fg_now() + 50000);
    if (e->target >= 0) fg_wait_served(e->context->gpu, e->target);
    return CUDA_SUCCESS;
}
CUresult fk_cuEventElapsedTime(const struct fk_call *call, float *milliseconds, CUevent from, CUevent to) {
    (void)call;
    struct fk_event *a = (struct fk_event *)from, *b = (struct fk_event *)to;
    if (a->target < 0 || b->target < 0) return CUDA_ERROR_INVALID_HANDLE;
    if (!finished(a) || !finished(b)) return CUDA_ERROR_NOT_READY;
    *milliseconds = (float)((double)(fg_gpu_clock(b->done) - fg_gpu_clock(a->done)) / 1e6);
    return CUDA_SUCCESS;
}
CUresult fk_cuEventDestroy_v2(const struct fk_call *call, CUevent event) {
    (void)call;
    free(event);
    return CUDA_SUCCESS;
}
