/* Streams that stand still until the program lets them go on: at a value it writes, or behind a kernel (`hold`) that
 * runs until it sets a flag. What is queued behind waits here, and is handed to the machine once the way is free:
 * whoever asks about the stream looks. On the real clock only: nothing else tells when to look again. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>

struct fk_gated {
    volatile int *word; /* a gate */
    int value;
    bool equal_or_more; /* else: not zero */
    struct fk_event *event; /* a record */
    int64_t ns; /* neither: a kernel */
    struct fk_gated *next;
};
enum { LOOK_NS = 50000 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool open(const struct fk_gated *g) { return g->equal_or_more ? *g->word >= g->value : *g->word != 0; }

/* True: something still stands before a gate. */
bool fk_gated(struct fk_stream *stream) {
    if (!__atomic_load_n(&stream->gated, __ATOMIC_ACQUIRE)) return false;
    pthread_mutex_lock(&mutex);
    struct fk_gated *first;
    while ((first = stream->gated) && (!first->word || open(first))) {
        if (first->event) fk_record_now(first->event, stream);
        else if (!first->word) stream->tail = fg_submit(stream->context->gpu, stream->tail, first->ns);
        stream->gated_count--;
        __atomic_store_n(&stream->gated, first->next, __ATOMIC_RELEASE);
        free(first);
    }
    pthread_mutex_unlock(&mutex);
    return first != NULL;
}

static void push(struct fk_stream *stream, struct fk_gated wanted) {
    while (fk_gated(stream) && __atomic_load_n(&stream->gated_count, __ATOMIC_RELAXED) >= FK_QUEUE) fg_wait_until(fg_now() + LOOK_NS);
    struct fk_gated *fresh = malloc(sizeof *fresh), **link;
    *fresh = wanted;
    pthread_mutex_lock(&mutex);
    for (link = &stream->gated; *link; link = &(*link)->next) {
    }
    stream->gated_count++;
    __atomic_store_n(link, fresh, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
}

void fk_gate_kernel(struct fk_stream *stream, int64_t ns) { push(stream, (struct fk_gated){ .ns = ns }); }
void fk_gate_record(struct fk_stream *stream, struct fk_event *event) { push(stream, (struct fk_gated){ .event = event }); }
void fk_gate_hold(struct fk_stream *stream, volatile int *word) { push(stream, (struct fk_gated){ .word = word }); }

void fk_wait_ungated(struct fk_stream *stream) {
    while (fk_gated(stream)) fg_wait_until(fg_now() + LOOK_NS);
}

CUresult fk_cuStreamWaitValue32_v2(const struct fk_call *call, CUstream handle, CUdeviceptr address, cuuint32_t value, unsigned int flags) {
    (void)flags;
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (!stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    push(stream, (struct fk_gated){ .word = (volatile int *)(uintptr_t)address, .value = (int)value, .equal_or_more = true });
    return CUDA_SUCCESS;
}
