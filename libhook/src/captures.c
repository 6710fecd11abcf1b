#define _GNU_SOURCE
#include "captures.h"

#include "driver.h"

int ph_captures;

void ph_captures_after_fork(void) { __atomic_store_n(&ph_captures, 0, __ATOMIC_RELAXED); }

bool ph_capturing_now(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (stream == NULL && per_thread) stream = CU_STREAM_PER_THREAD;
    if (!ph_driver.cuStreamIsCapturing || stream == PH_EVERY_STREAM) return true;
    if (PH_ASK(cuStreamIsCapturing)(stream, &status) != CUDA_SUCCESS) return true; /* legacy stream during a capture */
    return status != CU_STREAM_CAPTURE_STATUS_NONE;
}
