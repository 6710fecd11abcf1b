/* Measuring GPU time with events: one pair per batch of launches on a stream, never per launch.
 *
 * A batch is closed after 64 launches, after about 200 µs of estimated work, before anything that orders the
 * stream differently (waits, copies), and by the housekeeper when the program goes quiet. Costs per (kernel,
 * grid) or graph are learned from batches of one launch: the first four, then one in 512. They bound what may be
 * in flight unmeasured, and what is charged when a batch had gaps that events cannot see. */
#define _GNU_SOURCE
#include "activity.h"
#include "config.h"
#include "driver.h"
#include "limiter.h"
#include "log.h"
#include "memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_LAUNCHES = 64,
    BATCH_NS = 200000,
    UNKNOWN_COST_NS = 100000,
    LEARNING = 4,       /* samples before a cost is believed */
    RESAMPLE = 512,
    QUIET_NS = 1000000, /* a batch this long without a launch is closed by the housekeeper */
    STREAMS = 1024,
    COSTS = 1024,
    REBASE_NS = 2000000000,
};

struct ph_cost {
    const void *key;
    uint64_t size;
    float ns;
    uint32_t samples, launches;
};

/* A context's events and its place on the host's clock. */
struct timeline {
    CUcontext context;
    CUevent base;        /* an event whose host time is known */
    int64_t base_host;
    CUevent *spare;
    int spares, room;
    struct timeline *next;
};

struct ph_batch { /* one per stream */
    pthread_mutex_t mutex;
    CUcontext context;
    CUstream stream;
    bool special; /* NULL, legacy or per-thread: the handle alone does not name it */
    bool taken;
    int device;
    struct timeline *timeline;
    bool open;
    CUevent start;
    int launches;
    double estimate;  /* ns */
    bool believed;    /* every cost in it has been learned */
    struct ph_cost *only;
    int64_t opened_at;
    int pending;      /* closed and not yet measured; 0 when opening: the stream was idle */
    bool was_idle;
    int64_t lead;     /* ns the GPU waited between the start event and the first launch */
};

struct measurement {
    struct measurement *next;
    struct timeline *timeline;
    CUevent start, end;
    int device, launches;
    double estimate;
    bool believed, started, late;
    struct ph_cost *only;
    struct ph_batch *batch;
    int64_t lead;
    int64_t from; /* host ns, once started */
    bool posted;  /* part of it has been posted while it ran */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* queue, timelines, streams table */
static pthread_mutex_t drain_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct measurement *oldest, *newest, *free_measurements;
static struct timeline *timelines;
static struct ph_batch *streams[STREAMS];
static int stream_count;
static struct ph_cost costs[COSTS];
static int64_t in_flight[PH_MAX_DEVICES];
static struct ph_coverage coverage[PH_MAX_DEVICES], container_coverage[PH_MAX_DEVICES];
static unsigned int measured; /* batches ever closed; tells the housekeeper that there was work */
static unsigned int generation = 1; /* of the streams table; invalidates the threads' caches */

int64_t ph_batches_in_flight(int device) { return __atomic_load_n(&in_flight[device], __ATOMIC_RELAXED); }

static struct ph_cost *cost_of(const void *key, uint64_t size) {
    uint64_t mixed = ((uint64_t)(uintptr_t)key ^ size * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    struct ph_cost *cost = &costs[(mixed >> 40) & (COSTS - 1)];
    if (cost->key != key || cost->size != size) *cost = (struct ph_cost){ .key = key, .size = size, .ns = UNKNOWN_COST_NS };
    return cost;
}

/* Events */

static struct timeline *timeline_of(CUcontext context) {
    struct timeline *found = timelines;
    while (found && found->context != context) found = found->next;
    if (found) return found;
    found = calloc(1, sizeof *found);
    if (!found) return NULL;
    found->context = context;
    found->next = timelines;
    timelines = found;
    return found;
}

static CUevent take_event(struct timeline *timeline) {
    CUevent event = NULL;
    pthread_mutex_lock(&mutex);
    if (timeline->spares) event = timeline->spare[--timeline->spares];
    pthread_mutex_unlock(&mutex);
    if (!event && ph_driver.cuEventCreate(&event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) event = NULL;
    return event;
}

static void give_event(struct timeline *timeline, CUevent event) { /* with the mutex held */
    if (timeline->spares == timeline->room) {
        int room = timeline->room ? timeline->room * 2 : 32;
        CUevent *bigger = realloc(timeline->spare, (size_t)room * sizeof *bigger);
        if (!bigger) return;
        timeline->spare = bigger;
        timeline->room = room;
    }
    timeline->spare[timeline->spares++] = event;
}

static int64_t elapsed_ns(CUevent from, CUevent to) {
    float milliseconds = 0;
    if (ph_driver.cuEventElapsedTime(&milliseconds, from, to) != CUDA_SUCCESS) return -1;
    return (int64_t)((double)milliseconds * 1e6);
}

/* Streams */

static bool is_special(CUstream stream) {
    return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

struct remembered {
    CUstream stream;
    CUcontext context;
    struct ph_batch *batch;
    unsigned int generation;
};
static __thread struct remembered cache[4];

static struct ph_batch *find_stream(CUstream stream, CUcontext context, bool special) {
    for (int i = 0; i < stream_count; i++)
        if (streams[i]->taken && streams[i]->stream == stream && (!special || streams[i]->context == context)) return streams[i];
    return NULL;
}

static struct ph_batch *add_stream(CUstream stream, CUcontext context, bool special) {
    struct ph_batch *batch = NULL;
    for (int i = 0; i < stream_count && !batch; i++)
        if (!streams[i]->taken) batch = streams[i];
    if (!batch) {
        if (stream_count == STREAMS) return NULL;
        batch = calloc(1, sizeof *batch);
        if (!batch) return NULL;
        pthread_mutex_init(&batch->mutex, NULL);
        streams[stream_count++] = batch;
    }
    batch->stream = stream;
    batch->context = context;
    batch->special = special;
    batch->device = ph_current_ordinal();
    batch->timeline = timeline_of(context);
    batch->taken = batch->timeline != NULL;
    return batch->taken ? batch : NULL;
}

static struct ph_batch *batch_of(CUstream stream, bool per_thread) {
    if (stream == NULL && per_thread) stream = CU_STREAM_PER_THREAD;
    bool special = is_special(stream);
    CUcontext context = special ? ph_current_context() : NULL;
    unsigned int now = __atomic_load_n(&generation, __ATOMIC_RELAXED);
    for (int i = 0; i < 4; i++)
        if (cache[i].generation == now && cache[i].stream == stream && cache[i].context == context) return cache[i].batch;
    pthread_mutex_lock(&mutex);
    CUcontext owner = special ? context : ph_current_context();
    struct ph_batch *batch = find_stream(stream, context, special);
    if (!batch && owner) batch = add_stream(stream, owner, special);
    pthread_mutex_unlock(&mutex);
    if (batch) {
        memmove(&cache[1], &cache[0], sizeof cache - sizeof cache[0]);
        cache[0] = (struct remembered){ stream, context, batch, now };
    }
    return batch;
}

/* Batches */

static void close_batch(struct ph_batch *batch, bool late) { /* with the batch's mutex held */
    if (!batch->open) return;
    batch->open = false;
    CUevent end = take_event(batch->timeline);
    bool timed = end && ph_driver.cuEventRecord(end, batch->stream) == CUDA_SUCCESS;
    __atomic_add_fetch(&measured, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&mutex);
    struct measurement *m = free_measurements;
    if (m) free_measurements = m->next;
    else m = malloc(sizeof *m);
    if (timed && m) {
        *m = (struct measurement){ .timeline = batch->timeline, .start = batch->start, .end = end, .device = batch->device,
                                   .launches = batch->launches, .estimate = batch->estimate, .believed = batch->believed,
                                   .late = late, .only = batch->only, .batch = batch, .lead = batch->lead };
        __atomic_add_fetch(&batch->pending, 1, __ATOMIC_RELAXED);
        if (newest) newest->next = m;
        else oldest = m;
        newest = m;
    } else {
        if (m) {
            m->next = free_measurements;
            free_measurements = m;
        }
        if (end) give_event(batch->timeline, end);
        give_event(batch->timeline, batch->start);
        __atomic_sub_fetch(&in_flight[batch->device], (int64_t)batch->estimate, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&mutex);
    /* Without a measurement the estimate is the bill. */
    if (!timed || !m) ph_limiter_charge(batch->device, batch->opened_at, (int64_t)batch->estimate);
}

static bool open_batch(struct ph_batch *batch) {
    struct timeline *timeline = batch->timeline;
    batch->start = take_event(timeline);
    if (!batch->start) return false;
    if (ph_driver.cuEventRecord(batch->start, batch->stream) != CUDA_SUCCESS) {
        pthread_mutex_lock(&mutex);
        give_event(timeline, batch->start);
        pthread_mutex_unlock(&mutex);
        return false;
    }
    batch->open = true;
    batch->launches = 0;
    batch->estimate = 0;
    batch->believed = true;
    batch->was_idle = __atomic_load_n(&batch->pending, __ATOMIC_RELAXED) == 0;
    batch->lead = 0;
    batch->opened_at = ph_now();
    return true;
}

/* The first event of a context is waited for once, to learn what the host's clock says at its time. */
static void set_base(struct timeline *timeline, CUstream stream) {
    CUevent base = take_event(timeline);
    if (!base) return;
    if (ph_driver.cuEventRecord(base, stream) == CUDA_SUCCESS && PH_REAL(cuEventSynchronize)(base) == CUDA_SUCCESS) {
        timeline->base_host = ph_now();
        timeline->base = base;
    }
}

bool ph_launch_begin(struct ph_launch *launch, CUstream stream, bool per_thread, const void *key, uint64_t size) {
    if (PH_UNLIKELY(ph_gate.state == PH_GATE_START)) {
        ph_start();
        ph_attach();
    }
    ph_limiter_first_launch();
    ph_note_activity();
    if (ph_gate.state != PH_GATE_TIMED || ph_capturing(stream, per_thread)) return false;
    struct ph_batch *batch = batch_of(stream, per_thread);
    if (!batch) return false;
    ph_limiter_admit(batch->device, stream, per_thread);
    struct ph_cost *cost = cost_of(key, size);
    bool alone = cost->samples < LEARNING || cost->launches % RESAMPLE == 0;
    pthread_mutex_lock(&batch->mutex);
    if (PH_UNLIKELY(!batch->timeline->base)) set_base(batch->timeline, stream);
    if (alone) close_batch(batch, false);
    if (!batch->open && (!batch->timeline->base || !open_batch(batch))) {
        pthread_mutex_unlock(&batch->mutex);
        return false;
    }
    launch->batch = batch;
    launch->cost = cost;
    return true; /* the batch's mutex stays held until ph_launch_end: the launch belongs between its events */
}

void ph_launch_end(struct ph_launch *launch, bool queued) {
    struct ph_batch *batch = launch->batch;
    struct ph_cost *cost = launch->cost;
    if (queued) {
        bool alone = cost->samples < LEARNING || cost->launches % RESAMPLE == 0;
        cost->launches++;
        batch->launches++;
        batch->estimate += cost->ns;
        batch->only = batch->launches == 1 ? cost : NULL;
        /* On an idle stream the start event is over before the launch has reached the GPU. */
        if (batch->launches == 1 && batch->was_idle) batch->lead = ph_now() - batch->opened_at;
        batch->believed = batch->believed && cost->samples >= LEARNING;
        __atomic_add_fetch(&in_flight[batch->device], (int64_t)cost->ns, __ATOMIC_RELAXED);
        if (alone || batch->launches >= BATCH_LAUNCHES || batch->estimate >= BATCH_NS) close_batch(batch, false);
    }
    pthread_mutex_unlock(&batch->mutex);
}

void ph_batches_close(CUstream stream, bool per_thread) {
    (void)stream;
    (void)per_thread;
    for (int i = 0, count = __atomic_load_n(&stream_count, __ATOMIC_ACQUIRE); i < count; i++) {
        struct ph_batch *batch = streams[i];
        if (!batch->taken || !batch->open) continue;
        pthread_mutex_lock(&batch->mutex);
        close_batch(batch, false);
        pthread_mutex_unlock(&batch->mutex);
    }
}

void ph_before_order(CUstream stream, bool per_thread) {
    if (PH_UNLIKELY(ph_gate.state == PH_GATE_START)) ph_start();
    if (ph_gate.state != PH_GATE_TIMED || stream_count == 0) return;
    if (stream == PH_EVERY_STREAM || ph_capturing(stream, per_thread)) {
        if (stream == PH_EVERY_STREAM) ph_batches_close(stream, per_thread);
        return;
    }
    struct ph_batch *batch = batch_of(stream, per_thread);
    if (!batch || !batch->open) return;
    pthread_mutex_lock(&batch->mutex);
    close_batch(batch, false);
    pthread_mutex_unlock(&batch->mutex);
}

void ph_after_wait(void) {
    if (ph_gate.state == PH_GATE_TIMED && oldest) ph_batches_drain(false);
}

/* Reading measurements */

static void learn(struct measurement *m, int64_t busy) {
    struct ph_cost *cost = m->only;
    if (!cost || m->launches != 1 || m->late) return;
    cost->ns = cost->samples == 0 ? (float)busy : cost->ns + ((float)busy - cost->ns) / (cost->samples < 16 ? (float)cost->samples + 1 : 16);
    if (cost->ns < 100) cost->ns = 100; /* below the events' resolution */
    cost->samples++;
}

static void post(int device, int64_t from, int64_t to, bool own) {
    struct ph_activity_ring *ring = ph_limiter_ring(device);
    ph_coverage_add(&coverage[device], ring, from, to, own);
    /* Where the node's ring is used, the container's own is kept too: the difference is the others. */
    struct ph_activity_ring *own_ring = ph_region.extension ? &ph_region.extension->activity[device] : NULL;
    if (own_ring && own_ring != ring) ph_coverage_add(&container_coverage[device], own_ring, from, to, false);
}

static bool contended(const struct measurement *m, int64_t busy) {
    struct ph_activity_ring *ring = ph_limiter_ring(m->device);
    int64_t from = m->from - PH_BIN_NS, to = m->from + busy + PH_BIN_NS;
    return ph_ring_total(ring, from, to) - ph_ring_total(&coverage[m->device].posted, from, to) >
           busy / 8;
}

/* Events are read in the order they were queued per stream; different streams may finish in any order, so the
 * whole queue is looked at. Returns false while it still runs. */
static bool finish(struct measurement *m, int64_t now) {
    struct timeline *timeline = m->timeline;
    if (!m->started) {
        if (PH_REAL(cuEventQuery)(m->start) != CUDA_SUCCESS) return false;
        int64_t since = elapsed_ns(timeline->base, m->start);
        m->from = timeline->base_host + (since > 0 ? since : 0) + m->lead;
        if (m->from > now) m->from = now; /* the clocks drift: what is over lies in the past */
        m->started = true;
    }
    if (PH_REAL(cuEventQuery)(m->end) != CUDA_SUCCESS) {
        if (now - m->from > 2 * QUIET_NS) {
            post(m->device, m->from, now, true); /* long work is charged while it runs */
            m->posted = true;
        }
        return false;
    }
    int64_t busy = elapsed_ns(m->start, m->end);
    if (busy < 0) busy = (int64_t)m->estimate;
    else busy = busy - m->lead > busy / 16 ? busy - m->lead : busy / 16; /* never free, whatever the clocks say */
    if (!m->late) learn(m, busy);
    int64_t billed = busy;
    /* Many small launches leave gaps that the pair of events spans. Only where nobody else was on the GPU: with
     * others about, the events span their turns too, and the ring sorts that out. */
    if (!m->posted && m->launches > 1 && m->believed && (double)billed > m->estimate * 1.05 && !contended(m, busy))
        billed = (int64_t)(m->estimate * 1.05);
    if (billed < busy) {
        ph_limiter_charge(m->device, m->from, billed);
        post(m->device, m->from, m->from + billed, false);
    } else {
        post(m->device, m->from, m->from + busy, true);
    }
    __atomic_sub_fetch(&in_flight[m->device], (int64_t)m->estimate, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&m->batch->pending, 1, __ATOMIC_RELAXED);
    return true;
}

static void recycle(struct measurement *m) { /* with the mutex held */
    struct timeline *timeline = m->timeline;
    int64_t since = elapsed_ns(timeline->base, m->end);
    if (since > REBASE_NS) { /* float milliseconds lose precision: move the base along */
        give_event(timeline, timeline->base);
        timeline->base = m->end;
        timeline->base_host += since;
        int64_t now = ph_now();
        if (timeline->base_host > now) timeline->base_host = now;
    } else {
        give_event(timeline, m->end);
    }
    give_event(timeline, m->start);
    m->next = free_measurements;
    free_measurements = m;
}

static void close_quiet(int64_t now) {
    for (int i = 0, count = __atomic_load_n(&stream_count, __ATOMIC_ACQUIRE); i < count; i++) {
        struct ph_batch *batch = streams[i];
        if (!batch->taken || !batch->open || now - batch->opened_at < QUIET_NS || pthread_mutex_trylock(&batch->mutex) != 0) continue;
        /* Already idle: the end event would be stamped now, long after the work. */
        bool idle = batch->open && PH_REAL(cuStreamQuery)(batch->stream) == CUDA_SUCCESS;
        close_batch(batch, idle);
        pthread_mutex_unlock(&batch->mutex);
    }
}

static int64_t settled_at;

static void settle(int64_t now) { /* with the mutex held */
    settled_at = now;
    for (int i = 0; i < ph_device_count; i++)
        ph_coverage_settle(&coverage[i], ph_limiter_ring(i), now, ph_limiter_charge, i);
}

void ph_batches_drain(bool from_housekeeper) {
    if (!from_housekeeper && pthread_mutex_trylock(&drain_mutex) != 0) return;
    if (from_housekeeper) pthread_mutex_lock(&drain_mutex);
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    bool exchanged = !from_housekeeper && ph_any_capture() && ph_driver.cuThreadExchangeStreamCaptureMode &&
                     ph_driver.cuThreadExchangeStreamCaptureMode(&mode) == CUDA_SUCCESS;
    int64_t now = ph_now();
    if (from_housekeeper) close_quiet(now);
    pthread_mutex_lock(&mutex);
    struct measurement **link = &oldest;
    struct measurement *previous = NULL;
    while (*link) {
        struct measurement *m = *link;
        if (!finish(m, now)) {
            previous = m;
            link = &m->next;
            continue;
        }
        *link = m->next;
        if (newest == m) newest = previous;
        recycle(m);
    }
    /* Launching threads do it too: the limit must not depend on when the housekeeper gets a turn. */
    if (from_housekeeper || now - settled_at > QUIET_NS) settle(now);
    pthread_mutex_unlock(&mutex);
    if (exchanged) ph_driver.cuThreadExchangeStreamCaptureMode(&mode);
    pthread_mutex_unlock(&drain_mutex);
}

bool ph_batches_idle(void) {
    static __thread int64_t last_work;
    int64_t now = ph_now();
    static __thread unsigned int last_count;
    unsigned int count = __atomic_load_n(&measured, __ATOMIC_RELAXED);
    bool work = oldest != NULL || count != last_count;
    for (int i = 0; i < stream_count && !work; i++) work = streams[i]->open;
    if (work) last_work = now;
    last_count = count;
    return now - last_work > 4 * PH_SETTLE_NS;
}

/* Ends */

void ph_batches_forget_stream(CUstream stream) {
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < stream_count; i++)
        if (streams[i]->taken && !streams[i]->special && streams[i]->stream == stream) streams[i]->taken = false;
    generation++;
    pthread_mutex_unlock(&mutex);
}

CUresult ph_stream_destroy(const struct ph_call *call, CUstream stream) {
    if (stream_count) {
        ph_before_order(stream, false);
        ph_batches_forget_stream(stream);
    }
    return PH_NEXT(call, cuStreamDestroy_v2)(stream);
}

/* Events die with their context: what is unmeasured is billed by estimate. */
void ph_batches_forget_context(CUcontext context) {
    ph_batches_drain(true);
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < stream_count; i++) {
        struct ph_batch *batch = streams[i];
        if (!batch->taken || batch->context != context) continue;
        if (batch->open) __atomic_sub_fetch(&in_flight[batch->device], (int64_t)batch->estimate, __ATOMIC_RELAXED);
        batch->open = batch->taken = false;
        batch->pending = 0;
    }
    struct measurement **link = &oldest;
    newest = NULL;
    while (*link) {
        struct measurement *m = *link;
        if (m->timeline->context != context) {
            newest = m;
            link = &m->next;
            continue;
        }
        *link = m->next;
        ph_limiter_charge(m->device, ph_now(), (int64_t)m->estimate);
        __atomic_sub_fetch(&in_flight[m->device], (int64_t)m->estimate, __ATOMIC_RELAXED);
        m->next = free_measurements;
        free_measurements = m;
    }
    for (struct timeline *t = timelines; t; t = t->next)
        if (t->context == context) {
            t->context = NULL;
            t->base = NULL;
            t->spares = 0;
        }
    generation++;
    pthread_mutex_unlock(&mutex);
}

void ph_batches_after_fork(void) {
    pthread_mutex_init(&mutex, NULL);
    pthread_mutex_init(&drain_mutex, NULL);
    /* The parent's contexts, streams and events mean nothing here; what they occupied is left alone. */
    oldest = newest = free_measurements = NULL;
    timelines = NULL;
    stream_count = 0;
    generation++;
    memset(in_flight, 0, sizeof in_flight);
    memset(coverage, 0, sizeof coverage);
    memset(container_coverage, 0, sizeof container_coverage);
}
