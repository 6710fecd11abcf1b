/* Stream capture, and what CUDA forbids while one goes on: work on the legacy stream while a stream that is ordered
 * with it captures (CUDA_ERROR_STREAM_CAPTURE_IMPLICIT), and questions that capture cannot see, by threads that are not
 * relaxed, while one in global mode goes on (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED). Both invalidate the capture. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>

enum { CAPTURES = 64 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fk_stream *capturing[CAPTURES];
static int count; /* atomic */
static __thread CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

static CUresult invalidate(const struct fk_context *of, bool implicit) {
    CUresult result = CUDA_SUCCESS;
    if (__atomic_load_n(&count, __ATOMIC_RELAXED) == 0) return result;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < CAPTURES; i++) {
        struct fk_stream *s = capturing[i];
        if (!s || (implicit ? s->context != of || !s->blocking : s->capture_mode != CU_STREAM_CAPTURE_MODE_GLOBAL)) continue;
        s->invalidated = true;
        result = implicit ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}
CUresult fk_legacy_used(const struct fk_context *context) { return invalidate(context, true); }
CUresult fk_asked(void) { return mode == CU_STREAM_CAPTURE_MODE_RELAXED ? CUDA_SUCCESS : invalidate(NULL, false); }

CUresult fk_cuThreadExchangeStreamCaptureMode(const struct fk_call *call, CUstreamCaptureMode *wanted) {
    (void)call;
    CUstreamCaptureMode before = mode;
    mode = *wanted;
    *wanted = before;
    return CUDA_SUCCESS;
}

CUresult fk_cuStreamBeginCapture_v2(const struct fk_call *call, CUstream handle, CUstreamCaptureMode how) {
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (fk_is_legacy(handle, call->per_thread)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    pthread_mutex_lock(&mutex);
    int at = 0;
    while (at < CAPTURES && capturing[at]) at++;
    if (at == CAPTURES) abort();
    capturing[at] = stream;
    stream->capture_mode = how;
    stream->invalidated = false;
    stream->capture = calloc(1, sizeof *stream->capture);
    __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuStreamBeginRecaptureToGraph(const struct fk_call *call, CUstream stream, CUstreamCaptureMode how, CUgraph graph,
                                          CUgraphRecaptureCallback callback, void *data) {
    (void)graph, (void)callback, (void)data;
    return fk_cuStreamBeginCapture_v2(call, stream, how);
}
CUresult fk_cuStreamEndCapture(const struct fk_call *call, CUstream handle, CUgraph *graph) {
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < CAPTURES; i++)
        if (capturing[i] == stream) capturing[i] = NULL;
    __atomic_sub_fetch(&count, 1, __ATOMIC_RELAXED);
    *graph = stream->invalidated ? NULL : (CUgraph)stream->capture;
    stream->capture = NULL;
    bool broken = stream->invalidated;
    pthread_mutex_unlock(&mutex);
    return broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}
static bool orders_a_capture(const struct fk_context *context) {
    bool found = false;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < CAPTURES; i++) found = found || (capturing[i] && capturing[i]->context == context && capturing[i]->blocking);
    pthread_mutex_unlock(&mutex);
    return found;
}
CUresult fk_cuStreamIsCapturing(const struct fk_call *call, CUstream handle, CUstreamCaptureStatus *status) {
    const struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (__atomic_load_n(&count, __ATOMIC_RELAXED) && fk_is_legacy(handle, call->per_thread) && orders_a_capture(stream->context))
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    *status = !stream->capture ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}
