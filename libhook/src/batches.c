/* Measuring GPU time with events: one pair per batch of launches on a stream, never per launch.
 *
 * A batch is closed after 64 launches, after about 200 µs of estimated work, before anything that orders the
 * stream differently (waits, copies), and by the housekeeper when the program goes quiet. What happens to a
 * closed one is measurements.c. */
#include "batches.h"

#include "captures.h"
#include "clock.h"
#include "gate.h"
#include "limiter.h"

enum {
    BATCH_LAUNCHES = 64,
    BATCH_NS = 200000,
    ANNOUNCE_NS = 10000, /* of estimated work that may be queued before others learn of it */
    QUEUED = 512,       /* launches: half of what a stream's queue holds */
    QUIET_NS = 1000000, /* a batch this long without a launch is closed by the housekeeper */
};

static void set_open(struct ph_batch *batch, int64_t since) { /* with its lock held */
    __atomic_add_fetch(&ph_flights[batch->device].streams, (since != 0) - (batch->open != 0), __ATOMIC_RELAXED);
    __atomic_store_n(&batch->open, since, __ATOMIC_RELAXED);
}

static void announce(struct ph_batch *batch) {
    ph_in_flight_add(batch->device, batch->work.unannounced);
    batch->work.unannounced = 0;
}

/* Our events go onto a stream only where they cannot harm: not into a capture (CUDA forbids it, or records them into the
 * program's graph), whoever began it by whatever call; on the legacy stream not while one that is ordered with it
 * captures, which the driver tells by refusing the question. */
static bool recordable(const struct ph_batch *batch) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (!ph_driver.cuStreamIsCapturing) return true;
    return PH_ASK(cuStreamIsCapturing)(batch->stream, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_NONE;
}

/* The handle of a special stream means the stream of the context that is current. False: it cannot be made so. */
static bool enter(const struct ph_batch *batch, bool *entered) {
    *entered = batch->special && ph_current_context() != batch->context;
    return !*entered || (ph_driver.cuCtxPushCurrent_v2 && PH_ASK(cuCtxPushCurrent_v2)(batch->context) == CUDA_SUCCESS);
}
static void leave(bool entered) {
    CUcontext left;
    if (entered) PH_ASK(cuCtxPopCurrent_v2)(&left);
}

static CUevent record_end(struct ph_batch *batch) {
    bool entered;
    if (batch->work.end || (batch->owner && batch->owner != ph_stream_memory) || !enter(batch, &entered)) return batch->work.end;
    batch->work.closed_at = ph_now();
    CUevent end = recordable(batch) ? ph_timeline_record(batch->timeline, NULL, batch->stream) : NULL;
    leave(entered);
    return end;
}

static bool is_idle(const struct ph_batch *batch) {
    bool entered, idle;
    if (batch->owner || !enter(batch, &entered)) return false;
    idle = PH_REAL(cuStreamQuery)(batch->stream) == CUDA_SUCCESS;
    leave(entered);
    return idle;
}

static void close_batch(struct ph_batch *batch, bool late) { /* with the batch's lock held */
    __atomic_store_n(&batch->close, false, __ATOMIC_RELAXED);
    if (!batch->open) return;
    set_open(batch, 0);
    announce(batch);
    CUevent end = record_end(batch);
    if (late && batch->work.only) ph_cost_sample_next(batch->work.only); /* what was not seen this time */
    if (end) {
        ph_measurement_add(batch, end, late);
    } else {
        ph_timeline_give_back(batch->timeline, batch->work.start);
        ph_measurement_bill_estimate(batch, &batch->work);
    }
}

static bool open_batch(struct ph_batch *batch) {
    int64_t now = ph_now();
    CUevent start = ph_timeline_record(batch->timeline, NULL, batch->stream);
    if (!start) return false;
    batch->work = (struct ph_work){ .start = start, .believed = true, .opened_at = now };
    batch->was_idle = __atomic_load_n(&batch->pending, __ATOMIC_RELAXED) == 0;
    __atomic_store_n(&batch->close, false, __ATOMIC_RELAXED);
    set_open(batch, batch->work.opened_at);
    ph_measurements_work_begins(batch->device, batch->work.opened_at);
    return true;
}

/* Closes it unless somebody is just launching: that one will. Nobody waits here for a launch, which may wait in the
 * driver for room in the stream's queue, nor records an event onto a queue that may be full. */
enum why { ORDER, QUIET, OWN }; /* OWN: its thread is about to launch onto it anyway */
static void close_soon(struct ph_batch *batch, enum why why) {
    if (!ph_batch_open(batch) || (why != OWN && __atomic_load_n(&batch->queued, __ATOMIC_RELAXED) > QUEUED)) return;
    __atomic_store_n(&batch->close, true, __ATOMIC_RELAXED);
    if (!ph_futex_lock_try(&batch->lock)) return;
    /* Idle already: the end event would be stamped now, long after the work. */
    close_batch(batch, why == QUIET && batch->open && is_idle(batch));
    ph_futex_lock_release(&batch->lock);
}

bool ph_launch_begin(struct ph_launch *launch, CUstream stream, bool per_thread, const void *key, uint64_t size) {
    if (ph_gate_state() != PH_GATE_TIMED || ph_capturing(stream, per_thread)) return false;
    struct ph_batch *batch = ph_stream_of(stream, per_thread);
    if (batch && batch->special && !ph_batch_open(batch)) {
        ph_current_changes();
        batch = ph_stream_of(stream, per_thread);
    }
    if (!batch) return false;
    launch->cost = ph_cost_of(key, size ^ (uint64_t)batch->device << 56); /* a library's kernel has one handle for all GPUs */
    launch->alone = ph_cost_wants_sample(launch->cost);
    launch->batch = batch;
    if (PH_UNLIKELY(launch->alone) && ph_cost_awaited(launch->cost)) ph_limiter_wait_for_first(batch->device, launch->cost);
    ph_limiter_admit(batch->device, batch, ph_batches_close);
    ph_futex_lock_acquire(&batch->lock);
    if (launch->alone) close_batch(batch, false);
    bool captured = !batch->open && !recordable(batch);
    if (captured || (!batch->open && !open_batch(batch))) {
        ph_futex_lock_release(&batch->lock);
        if (!captured) ph_shares_charge(batch->device, ph_now(), ph_cost_ns(launch->cost)); /* untimed is not free */
        return false;
    }
    return true; /* the batch's lock stays held until ph_launch_end: the launch belongs between its events */
}

/* Only its own thread can record on a per-thread stream, and it may never come back: the end is always there. */
static void record_after(struct ph_batch *batch) {
    int64_t now = ph_now();
    CUevent end = recordable(batch) ? ph_timeline_record(batch->timeline, batch->work.end, batch->stream) : NULL;
    if (!end) return;
    batch->work.end = end;
    batch->work.closed_at = now;
}

void ph_launch_end(struct ph_launch *launch, bool queued) {
    struct ph_batch *batch = launch->batch;
    if (queued) {
        struct ph_work *work = &batch->work;
        int64_t ns = ph_cost_ns(launch->cost);
        ph_cost_count_launch(launch->cost);
        work->launches++;
        work->estimate += ns;
        work->only = work->launches == 1 ? launch->cost : NULL;
        /* On an idle stream the start event is over before the launch has reached the GPU. */
        if (work->launches == 1 && batch->was_idle) work->lead = ph_now() - work->opened_at;
        work->believed = work->believed && ph_cost_believed(launch->cost);
        work->unmeasured = work->unmeasured || ph_cost_unmeasured(launch->cost);
        work->unannounced += ns;
        __atomic_add_fetch(&batch->queued, 1, __ATOMIC_RELAXED);
        if (work->unannounced >= ANNOUNCE_NS) announce(batch);
        if (batch->owner) record_after(batch);
        bool full = work->launches >= BATCH_LAUNCHES || work->estimate >= BATCH_NS;
        if (launch->alone || full || __atomic_load_n(&batch->close, __ATOMIC_RELAXED)) close_batch(batch, false);
    }
    ph_futex_lock_release(&batch->lock);
}

void ph_batches_close(const struct ph_batch *own) {
    for (struct ph_batch *batch = ph_streams_first(); batch; batch = batch->next) close_soon(batch, batch == own ? OWN : ORDER);
}

void ph_batches_close_quiet(int64_t now) {
    for (struct ph_batch *batch = ph_streams_first(); batch; batch = batch->next) {
        int64_t since = ph_batch_open(batch);
        if (since && now - since >= QUIET_NS) close_soon(batch, QUIET);
    }
}

void ph_before_order(CUstream stream, bool per_thread) {
    if (ph_gate_state() != PH_GATE_TIMED || !ph_streams_first()) return;
    if (stream == PH_EVERY_STREAM) {
        ph_batches_close(NULL);
        return;
    }
    struct ph_batch *batch = ph_stream_of(stream, per_thread);
    if (batch) close_soon(batch, ORDER);
}

void ph_after_wait(void) {
    if (ph_gate_state() == PH_GATE_TIMED && ph_measurements_pending()) ph_measurements_read(false);
}

static void abandon(struct ph_batch *batch) {
    if (!batch->open) return;
    set_open(batch, 0);
    announce(batch);
    ph_measurement_bill_estimate(batch, &batch->work);
}

void ph_batches_forget_stream(CUstream stream) {
    if (!ph_streams_first()) return;
    ph_before_order(stream, false);
    ph_streams_forget(stream, abandon);
}

void ph_batches_forget_context(CUcontext context) {
    ph_streams_forget_context(context, abandon);
    ph_measurements_forget(context);
    ph_timeline_forget(context);
}

void ph_batches_after_fork(void) {
    ph_costs_after_fork();
    ph_streams_after_fork();
    ph_measurements_after_fork();
    ph_timeline_after_fork();
}
