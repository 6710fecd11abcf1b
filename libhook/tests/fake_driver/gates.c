/* Streams that stand still until something else lets them go on: at a value that the program writes, behind a kernel
 * (`hold`) that runs until it sets a flag, or behind one (`meet`) that runs until others have come. What is queued behind
 * waits here, and is handed to the machine once the way is free: whoever asks about the stream looks. Values and flags are
 * for the real clock only: nothing else tells when to look again. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>

struct fk_gated {
    volatile int *word; /* a gate */
    int value;
    bool equal_or_more; /* else: not zero */
    bool meets, arrived; /* adds one to the word when the GPU gets there, and keeps the GPU busy until the gate opens */
    struct fk_event *event; /* a record */
    int64_t ns; /* neither: a kernel */
    struct fk_gated *next;
};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* How often whoever waits looks: each look on the virtual clock is a turn of every thread. */
static int64_t look_ns(void) { return fg_is_virtual() ? 200000 : 50000; }

static bool open(const struct fk_gated *g) {
    int word = __atomic_load_n(g->word, __ATOMIC_SEQ_CST);
    return g->equal_or_more ? word >= g->value : word != 0;
}

/* What is before it on the stream is over: it has come, and spins until somebody looks again. */
static void spin_on(struct fk_stream *stream, struct fk_gated *g) {
    if (fg_context_served(stream->context->gpu) < stream->tail) return;
    if (!g->arrived) __atomic_add_fetch(g->word, 1, __ATOMIC_SEQ_CST);
    g->arrived = true;
    if (!open(g)) stream->tail = fg_submit(stream->context->gpu, stream->tail, look_ns());
}

/* True: something still stands before a gate. */
bool fk_gated(struct fk_stream *stream) {
    if (!__atomic_load_n(&stream->gated, __ATOMIC_ACQUIRE)) return false;
    pthread_mutex_lock(&mutex);
    struct fk_gated *first;
    while ((first = stream->gated)) {
        if (first->meets) spin_on(stream, first);
        if (first->word && (!open(first) || (first->meets && !first->arrived))) break;
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
    while (fk_gated(stream) && __atomic_load_n(&stream->gated_count, __ATOMIC_RELAXED) >= FK_QUEUE) fg_wait_until(fg_now() + look_ns());
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
void fk_gate_meet(struct fk_stream *stream, volatile int *arrived, int64_t wanted) {
    push(stream, (struct fk_gated){ .word = arrived, .value = (int)wanted, .equal_or_more = true, .meets = true });
}

void fk_wait_ungated(struct fk_stream *stream) {
    while (fk_gated(stream)) fg_wait_until(fg_now() + look_ns());
}

CUresult fk_cuStreamWaitValue32_v2(const struct fk_call *call, CUstream handle, CUdeviceptr address, cuuint32_t value, unsigned int flags) {
    (void)flags;
    struct fk_stream *stream = fk_stream_of(handle, call->per_thread);
    if (!stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    push(stream, (struct fk_gated){ .word = (volatile int *)(uintptr_t)address, .value = (int)value, .equal_or_more = true });
    return CUDA_SUCCESS;
}
