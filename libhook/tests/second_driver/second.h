/* A second, smaller fake driver, written by another reader of CUDA's documentation than the first: what both agree on
 * is less likely a misreading of one. On the real clock alone; a thread for each stream works off its queue.
 *
 * It does what tests/fake_driver has no place for: kernels that end when the program or a peer wants it, a queue that is
 * full, a GPU whose clock drifts (SECOND_DRIFT_PPM), events and streams of different contexts, an ABI of a later CUDA.
 * Kernels, by the function's name: spin runs for the ns in its first parameter, hold until the int behind its first
 * parameter is set, meet until as many launches of it as the second parameter says have begun on the counter behind
 * the first (a collective). SECOND_DEVICES: how many GPUs (1). */
#pragma once

#define _GNU_SOURCE
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SD_EXPORT __attribute__((visibility("default")))
enum { SD_DEVICES = 16, SD_QUEUE = 1024 };

struct sd_context {
    int device;
    struct sd_stream *legacy;
};
struct sd_event {
    struct sd_context *context;
    int pending;   /* records that the GPU has not reached */
    bool recorded, captured;
    int64_t stamp; /* of the GPU's clock, ns */
};
enum sd_kind { SD_SPIN, SD_HOLD, SD_MEET, SD_RECORD, SD_WAIT_VALUE };
struct sd_work {
    enum sd_kind kind;
    int64_t amount;
    volatile int *word;
    struct sd_event *event;
    struct sd_work *next;
};
enum sd_capture { SD_NOT, SD_CAPTURES, SD_INVALIDATED };
struct sd_stream {
    struct sd_context *context;
    bool blocking, started; /* blocking: ordered with the legacy stream, so a capture of it puts that one out of use */
    struct sd_work *first, *last;
    int queued;
    enum sd_capture capture;
    int mode;
    struct sd_stream *next;
};

extern pthread_mutex_t sd_mutex; /* all of the above */
extern pthread_cond_t sd_changed;
extern struct sd_stream *sd_streams;
extern __thread struct sd_context *sd_current;

/* With the mutex held, all of these. */
struct sd_stream *sd_make_stream(struct sd_context *context, bool blocking);
struct sd_stream *sd_stream_of(CUstream handle, bool per_thread); /* NULL: no current context */
bool sd_is_legacy(CUstream handle, bool per_thread);
CUresult sd_implicit(const struct sd_stream *legacy); /* invalidates captures that the legacy stream is ordered with */
CUresult sd_unsafe(void);                             /* the same for calls that captures in global mode forbid */
CUresult sd_queue(struct sd_stream *stream, struct sd_work work);
void sd_wait_idle(const struct sd_stream *stream);

int64_t sd_busy(void); /* ns that this process's kernels have run */
void sd_start_clock(void);
