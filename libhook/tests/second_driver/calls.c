/* The driver API, as much of it as the tests that run on both drivers call. */
#include "second.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__thread struct sd_context *sd_current;
static __thread struct sd_context *pushed;
static __thread int mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
static struct sd_context *primary[SD_DEVICES];
static int devices = 1;

/* Start-up, devices, contexts */

SD_EXPORT CUresult cuInit(unsigned int flags) {
    const char *count = getenv("SECOND_DEVICES");
    if (count) devices = atoi(count);
    sd_start_clock();
    return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
SD_EXPORT CUresult cuDriverGetVersion(int *version) {
    *version = 14000;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuDeviceGetCount(int *count) {
    *count = devices;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
SD_EXPORT CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    memset(uuid, 7, sizeof *uuid);
    uuid->bytes[15] = (char)device;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuDeviceGetPCIBusId(char *text, int length, CUdevice device) {
    snprintf(text, (size_t)length, "0000:%02X:00.0", device + 1);
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = 24ull << 30;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
    *flags = 0;
    *active = primary[device] != NULL;
    return CUDA_SUCCESS;
}
static struct sd_context *make_context(CUdevice device) {
    struct sd_context *context = calloc(1, sizeof *context);
    context->device = device;
    return context;
}
SD_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    pthread_mutex_lock(&sd_mutex);
    if (!primary[device]) primary[device] = make_context(device);
    *context = (CUcontext)primary[device];
    pthread_mutex_unlock(&sd_mutex);
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    sd_current = (struct sd_context *)context;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) { /* one deep */
    pushed = sd_current;
    return cuCtxSetCurrent(context);
}
SD_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    if (context) *context = (CUcontext)sd_current;
    return cuCtxSetCurrent((CUcontext)pushed);
}
SD_EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = (CUcontext)sd_current;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
    if (!sd_current) return CUDA_ERROR_INVALID_CONTEXT;
    *device = sd_current->device;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    (void)image;
    *module = calloc(1, 1);
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    (void)module;
    *function = (CUfunction)strdup(name);
    return CUDA_SUCCESS;
}

/* Streams and launches */

SD_EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
    if (!sd_current) return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&sd_mutex);
    *stream = (CUstream)sd_make_stream(sd_current, !(flags & CU_STREAM_NON_BLOCKING));
    pthread_mutex_unlock(&sd_mutex);
    return CUDA_SUCCESS;
}
/* Of a context of its own, as cuStreamGetCtx tells: what is current when it is used says nothing about it. */
SD_EXPORT CUresult cuGreenCtxStreamCreate(CUstream *stream, CUgreenCtx green, unsigned int flags, int priority) {
    (void)green, (void)flags, (void)priority;
    pthread_mutex_lock(&sd_mutex);
    *stream = (CUstream)sd_make_stream(make_context(sd_current ? sd_current->device : 0), false);
    pthread_mutex_unlock(&sd_mutex);
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext *context) {
    pthread_mutex_lock(&sd_mutex);
    const struct sd_stream *stream = sd_stream_of(handle, false);
    if (stream) *context = (CUcontext)stream->context;
    pthread_mutex_unlock(&sd_mutex);
    return stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
static CUresult onto(CUstream handle, bool per_thread, struct sd_work work) {
    pthread_mutex_lock(&sd_mutex);
    struct sd_stream *stream = sd_stream_of(handle, per_thread);
    CUresult result = stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    if (!result && work.event && work.event->context != stream->context) result = CUDA_ERROR_INVALID_HANDLE;
    if (!result && sd_is_legacy(handle, per_thread)) result = sd_implicit(stream);
    if (!result && stream->capture == SD_INVALIDATED) result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (work.event && !result) {
        work.event->captured = stream->capture != SD_NOT;
        work.event->recorded = true;
        work.event->pending += !work.event->captured;
        if (work.event->captured) fprintf(stderr, "[second driver] an event was recorded into a capture\n");
    }
    if (!result && stream->capture == SD_NOT) result = sd_queue(stream, work);
    pthread_mutex_unlock(&sd_mutex);
    return result;
}
static CUresult launch(CUfunction function, CUstream stream, bool per_thread, void **parameters) {
    const char *name = (const char *)function;
    if (strcmp(name, "hold") == 0)
        return onto(stream, per_thread, (struct sd_work){ .kind = SD_HOLD, .word = *(volatile int **)parameters[0] });
    if (strcmp(name, "meet") == 0)
        return onto(stream, per_thread, (struct sd_work){ .kind = SD_MEET, .word = *(volatile int **)parameters[0],
                                                          .amount = *(int64_t *)parameters[1] });
    return onto(stream, per_thread, (struct sd_work){ .kind = SD_SPIN, .amount = *(int64_t *)parameters[0] });
}
SD_EXPORT CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
                                  unsigned int bz, unsigned int shared, CUstream stream, void **parameters, void **extra) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)extra;
    return launch(f, stream, false, parameters);
}
SD_EXPORT CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
                                       unsigned int bz, unsigned int shared, CUstream stream, void **parameters, void **extra) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)extra;
    return launch(f, stream, true, parameters);
}
SD_EXPORT CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned int flags) {
    (void)flags;
    return onto(stream, false, (struct sd_work){ .kind = SD_WAIT_VALUE, .word = (volatile int *)(uintptr_t)address, .amount = value });
}

/* Captures */

CUresult sd_unsafe(void) {
    CUresult result = CUDA_SUCCESS;
    for (struct sd_stream *s = sd_streams; s && mode != CU_STREAM_CAPTURE_MODE_RELAXED; s = s->next) {
        if (s->capture == SD_NOT || s->mode != CU_STREAM_CAPTURE_MODE_GLOBAL) continue;
        s->capture = SD_INVALIDATED;
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return result;
}
SD_EXPORT CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *wanted) {
    int before = mode;
    mode = (int)*wanted;
    *wanted = (CUstreamCaptureMode)before;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode how) {
    if (sd_is_legacy(handle, false)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    pthread_mutex_lock(&sd_mutex);
    struct sd_stream *stream = sd_stream_of(handle, false);
    stream->capture = SD_CAPTURES;
    stream->mode = (int)how;
    pthread_mutex_unlock(&sd_mutex);
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuStreamBeginRecaptureToGraph(CUstream stream, CUstreamCaptureMode how, CUgraph graph,
                                                 CUgraphRecaptureCallback callback, void *data) {
    (void)graph, (void)callback, (void)data;
    return cuStreamBeginCapture_v2(stream, how);
}
SD_EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    pthread_mutex_lock(&sd_mutex);
    struct sd_stream *stream = sd_stream_of(handle, false);
    enum sd_capture was = stream->capture;
    stream->capture = SD_NOT;
    pthread_mutex_unlock(&sd_mutex);
    *graph = was == SD_CAPTURES ? calloc(1, 1) : NULL;
    return was == SD_CAPTURES ? CUDA_SUCCESS : was == SD_NOT ? CUDA_ERROR_ILLEGAL_STATE : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}
SD_EXPORT CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    static const CUstreamCaptureStatus told[] = { CU_STREAM_CAPTURE_STATUS_NONE, CU_STREAM_CAPTURE_STATUS_ACTIVE,
                                                  CU_STREAM_CAPTURE_STATUS_INVALIDATED };
    pthread_mutex_lock(&sd_mutex);
    const struct sd_stream *stream = sd_stream_of(handle, false);
    CUresult result = stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    for (const struct sd_stream *s = sd_streams; stream && sd_is_legacy(handle, false) && s; s = s->next)
        if (s->context == stream->context && s->blocking && s->capture != SD_NOT) result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    if (stream) *status = told[stream->capture];
    pthread_mutex_unlock(&sd_mutex);
    return result;
}

/* Waiting and asking */

static CUresult stream_idle(CUstream handle, bool per_thread, bool wait) {
    pthread_mutex_lock(&sd_mutex);
    const struct sd_stream *stream = sd_stream_of(handle, per_thread);
    CUresult result = stream ? sd_unsafe() : CUDA_ERROR_INVALID_CONTEXT;
    if (!result && wait) sd_wait_idle(stream);
    if (!result && stream->queued) result = CUDA_ERROR_NOT_READY;
    pthread_mutex_unlock(&sd_mutex);
    return result;
}
SD_EXPORT CUresult cuStreamSynchronize(CUstream stream) { return stream_idle(stream, false, true); }
SD_EXPORT CUresult cuStreamSynchronize_ptsz(CUstream stream) { return stream_idle(stream, true, true); }
SD_EXPORT CUresult cuStreamQuery(CUstream stream) { return stream_idle(stream, false, false); }
SD_EXPORT CUresult cuStreamQuery_ptsz(CUstream stream) { return stream_idle(stream, true, false); }
SD_EXPORT CUresult cuCtxSynchronize(void) {
    pthread_mutex_lock(&sd_mutex);
    CUresult result = sd_unsafe();
    for (const struct sd_stream *s = sd_streams; !result && s; s = s->next)
        if (s->context == sd_current) sd_wait_idle(s);
    pthread_mutex_unlock(&sd_mutex);
    return result;
}
SD_EXPORT CUresult cuEventCreate(CUevent *event, unsigned int flags) {
    (void)flags;
    if (!sd_current) return CUDA_ERROR_INVALID_CONTEXT;
    struct sd_event *fresh = calloc(1, sizeof *fresh);
    fresh->context = sd_current;
    *event = (CUevent)fresh;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuEventDestroy_v2(CUevent event) {
    (void)event;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
    return onto(stream, false, (struct sd_work){ .kind = SD_RECORD, .event = (struct sd_event *)event });
}
static CUresult event_reached(CUevent handle, bool wait) {
    const struct sd_event *event = (const struct sd_event *)handle;
    pthread_mutex_lock(&sd_mutex);
    CUresult result = sd_unsafe();
    if (!result && event->captured) result = CUDA_ERROR_CAPTURED_EVENT;
    while (!result && wait && event->pending > 0) pthread_cond_wait(&sd_changed, &sd_mutex);
    if (!result && event->pending > 0) result = CUDA_ERROR_NOT_READY;
    pthread_mutex_unlock(&sd_mutex);
    return result;
}
SD_EXPORT CUresult cuEventQuery(CUevent event) { return event_reached(event, false); }
SD_EXPORT CUresult cuEventSynchronize(CUevent event) { return event_reached(event, true); }
SD_EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
    const struct sd_event *a = (const struct sd_event *)from, *b = (const struct sd_event *)to;
    pthread_mutex_lock(&sd_mutex);
    CUresult result = !a->recorded || !b->recorded ? CUDA_ERROR_INVALID_HANDLE : a->pending > 0 || b->pending > 0 ? CUDA_ERROR_NOT_READY : 0;
    *milliseconds = (float)((double)(b->stamp - a->stamp) / 1e6);
    pthread_mutex_unlock(&sd_mutex);
    return result;
}

/* Memory, and an ABI of a CUDA to come: cuMemAlloc of three parameters, known by its address and by name */

SD_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    static uint64_t next = 0x7000000000;
    *address = __atomic_fetch_add(&next, (bytes + 0x1fffff) & ~0x1fffffull, __ATOMIC_SEQ_CST);
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    (void)address;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    *available = *total = 24ull << 30;
    return CUDA_SUCCESS;
}
SD_EXPORT CUresult cuMemAlloc_v3(CUdeviceptr *address, int location, size_t bytes);
SD_EXPORT CUresult cuMemAlloc_v3(CUdeviceptr *address, int location, size_t bytes) {
    *address = 0x1000;
    return bytes == 4096 && location == 7 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
SD_EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, cuuint64_t flags,
                                       CUdriverProcAddressQueryResult *found) {
    (void)flags;
    *function = NULL;
    if (strcmp(name, "cuMemAlloc") == 0) *function = version >= 14000 ? (void *)cuMemAlloc_v3 : (void *)cuMemAlloc_v2;
    if (strcmp(name, "cuMemFree") == 0) *function = (void *)cuMemFree_v2;
    if (found) *found = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
