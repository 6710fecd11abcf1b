/* Streams and what is queued on them. */
#include "second.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

pthread_mutex_t sd_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t sd_changed = PTHREAD_COND_INITIALIZER;
struct sd_stream *sd_streams;
static int64_t busy, epoch, drift_ppm;

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

void sd_start_clock(void) {
    const char *ppm = getenv("SECOND_DRIFT_PPM");
    epoch = now();
    drift_ppm = ppm ? atoll(ppm) : 0;
}

static int64_t gpu_clock(void) {
    int64_t passed = now() - epoch;
    return passed + passed / 1000000 * drift_ppm;
}

SD_EXPORT int64_t sd_busy(void) { return __atomic_load_n(&busy, __ATOMIC_RELAXED); }

static void spin(int64_t ns) {
    int64_t until = now() + ns;
    struct timespec length = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    if (ns > 100000) nanosleep(&length, NULL);
    while (now() < until) {
    }
}

static void meet(volatile int *arrived, int64_t wanted) {
    __atomic_add_fetch(arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(arrived, __ATOMIC_SEQ_CST) < wanted) usleep(50);
}

static void run(const struct sd_work *work) {
    int64_t from = now();
    switch (work->kind) {
    case SD_SPIN: spin(work->amount); break;
    case SD_HOLD: while (!*work->word) usleep(50); break;
    case SD_MEET: meet(work->word, work->amount); break;
    case SD_WAIT_VALUE: while (*work->word < (int)work->amount) usleep(50); return;
    case SD_RECORD: return;
    }
    __atomic_add_fetch(&busy, now() - from, __ATOMIC_RELAXED);
}

static void *work_off(void *argument) {
    struct sd_stream *stream = argument;
    pthread_mutex_lock(&sd_mutex);
    for (;;) {
        while (!stream->first) pthread_cond_wait(&sd_changed, &sd_mutex);
        struct sd_work *work = stream->first;
        pthread_mutex_unlock(&sd_mutex);
        run(work);
        pthread_mutex_lock(&sd_mutex);
        if (work->kind == SD_RECORD) {
            work->event->pending--;
            work->event->stamp = gpu_clock();
        }
        stream->first = work->next;
        if (!stream->first) stream->last = NULL;
        stream->queued--;
        free(work);
        pthread_cond_broadcast(&sd_changed);
    }
    return NULL;
}

struct sd_stream *sd_make_stream(struct sd_context *context, bool blocking) {
    struct sd_stream *stream = calloc(1, sizeof *stream);
    stream->context = context;
    stream->blocking = blocking;
    stream->next = sd_streams;
    return sd_streams = stream;
}

bool sd_is_legacy(CUstream handle, bool per_thread) {
    return handle == CU_STREAM_LEGACY || (handle == NULL && !per_thread);
}

struct sd_stream *sd_stream_of(CUstream handle, bool per_thread) {
    static __thread struct sd_stream *own; /* a per-thread stream is ordered with the legacy one */
    if (handle != NULL && handle != CU_STREAM_LEGACY && handle != CU_STREAM_PER_THREAD) return (struct sd_stream *)handle;
    if (!sd_current) return NULL;
    if (sd_is_legacy(handle, per_thread)) {
        if (!sd_current->legacy) sd_current->legacy = sd_make_stream(sd_current, false);
        return sd_current->legacy;
    }
    if (!own || own->context != sd_current) own = sd_make_stream(sd_current, true);
    return own;
}

CUresult sd_implicit(const struct sd_stream *legacy) {
    CUresult result = CUDA_SUCCESS;
    for (struct sd_stream *s = sd_streams; s; s = s->next) {
        if (s->context != legacy->context || !s->blocking || s->capture == SD_NOT) continue;
        s->capture = SD_INVALIDATED;
        result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    return result;
}

CUresult sd_queue(struct sd_stream *stream, struct sd_work work) {
    while (stream->queued >= SD_QUEUE) pthread_cond_wait(&sd_changed, &sd_mutex); /* as hardware's queues make their callers wait */
    struct sd_work *fresh = malloc(sizeof *fresh);
    *fresh = work;
    fresh->next = NULL;
    if (stream->last) stream->last->next = fresh;
    else stream->first = fresh;
    stream->last = fresh;
    stream->queued++;
    pthread_t worker;
    if (!stream->started && pthread_create(&worker, NULL, work_off, stream) == 0) pthread_detach(worker);
    stream->started = true;
    pthread_cond_broadcast(&sd_changed);
    return CUDA_SUCCESS;
}

void sd_wait_idle(const struct sd_stream *stream) {
    while (stream->queued) pthread_cond_wait(&sd_changed, &sd_mutex);
}
