#include "measurements.h"

#include "activity.h"
#include "batches.h"
#include "driver.h"
#include "limiter.h"
#include "memory.h"
#include "neighbours.h"
#include "region.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONG_NS = 2000000,   /* work this long is posted while it runs */
    SETTLE_EVERY_NS = 1000000,
};

struct measurement {
    struct measurement *next;
    struct ph_batch *batch;
    struct ph_timeline *timeline;
    CUevent end;
    int device;
    bool late, started, posted; /* posted: part of it, while it ran */
    int64_t from;               /* host ns, once started */
    int64_t posted_to;          /* up to here */
    struct ph_work work;
};

static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER; /* the queue and the free list: a few instructions */
static struct measurement *queue, **queue_end = &queue, *free_ones;
static pthread_mutex_t reader_mutex = PTHREAD_MUTEX_INITIALIZER; /* everything a reader uses, below */
static struct measurement *reading;
static struct ph_coverage coverage[PH_MAX_DEVICES], container_coverage[PH_MAX_DEVICES];
static int64_t settled_at;
static int waiting;        /* measurements not yet read */
static int running[PH_MAX_DEVICES]; /* of them, those that the GPU had begun at the last look */
static unsigned int count; /* measurements ever */

struct ph_in_flight ph_flights[PH_MAX_DEVICES];
bool ph_measurements_pending(void) { return __atomic_load_n(&waiting, __ATOMIC_RELAXED) != 0; }
bool ph_measurements_running(int device) { return __atomic_load_n(&running[device], __ATOMIC_RELAXED) != 0; }
unsigned int ph_measurements_count(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

void ph_measurement_bill_estimate(int device, const struct ph_work *work) {
    ph_in_flight_add(device, -work->estimate);
    ph_limiter_charge(device, work->opened_at, work->estimate);
}

void ph_measurement_add(struct ph_batch *batch, CUevent end, bool late) {
    pthread_mutex_lock(&queue_mutex);
    struct measurement *m = free_ones;
    if (m) free_ones = m->next;
    pthread_mutex_unlock(&queue_mutex);
    if (!m && !(m = malloc(sizeof *m))) {
        ph_timeline_give_back(batch->timeline, end);
        ph_timeline_give_back(batch->timeline, batch->work.start);
        ph_measurement_bill_estimate(batch->device, &batch->work);
        return;
    }
    *m = (struct measurement){ .batch = batch, .timeline = batch->timeline, .end = end, .device = batch->device, .late = late,
                               .work = batch->work };
    __atomic_add_fetch(&batch->pending, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&waiting, 1, __ATOMIC_RELAXED);
    if (m->work.only) ph_cost_await(m->work.only, 1);
    __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&queue_mutex);
    *queue_end = m;
    queue_end = &m->next;
    pthread_mutex_unlock(&queue_mutex);
}

static void discard(struct measurement *m) {
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_RELAXED);
    if (m->work.only) ph_cost_await(m->work.only, -1);
    pthread_mutex_lock(&queue_mutex);
    m->next = free_ones;
    free_ones = m;
    pthread_mutex_unlock(&queue_mutex);
}

static void post(int device, int64_t from, int64_t to, bool own) {
    struct ph_activity_ring *ring = ph_neighbours_ring(device);
    ph_coverage_add(&coverage[device], ring, from, to, own);
    /* Where the node's ring is used, the container's own is kept too: the difference is the others. */
    struct ph_activity_ring *own_ring = ph_region.extension ? &ph_region.extension->activity[device] : NULL;
    if (own_ring && own_ring != ring) ph_coverage_add(&container_coverage[device], own_ring, from, to, false);
}

static bool contended(const struct measurement *m, int64_t busy) {
    struct ph_activity_ring *ring = ph_neighbours_ring(m->device);
    int64_t from = m->from - PH_BIN_NS, to = m->from + busy + PH_BIN_NS;
    return ph_ring_total(ring, from, to) - ph_ring_total(&coverage[m->device].posted, from, to) > busy / 8;
}

/* False while it runs. */
static bool finish(struct measurement *m, int64_t now) {
    const struct ph_work *work = &m->work;
    if (!m->started) {
        if (PH_REAL(cuEventQuery)(work->start) != CUDA_SUCCESS) return false;
        m->from = ph_timeline_host(m->timeline, work->start, now) + work->lead;
        if (m->from > now) m->from = now;
        m->started = true;
    }
    if (PH_REAL(cuEventQuery)(m->end) != CUDA_SUCCESS) {
        if (now - m->from > LONG_NS) {
            post(m->device, m->from, now, true); /* long work is charged while it runs */
            m->posted = true;
            m->posted_to = now;
        }
        return false;
    }
    int64_t busy = ph_elapsed_ns(work->start, m->end);
    if (busy < 0) busy = work->estimate;
    else busy = busy - work->lead > busy / 16 ? busy - work->lead : busy / 16; /* never free, whatever the clocks say */
    if (!m->late && work->launches == 1 && work->only) ph_cost_learn(work->only, busy);
    int64_t billed = busy;
    /* Many small launches leave gaps that the pair of events spans. Only where nobody else was on the GPU: with
     * others about, the events span their turns too, and the ring sorts that out. */
    int64_t expected = work->estimate + work->estimate / 20;
    if (!m->posted && work->launches > 1 && work->believed && billed > expected && !contended(m, busy)) billed = expected;
    if (billed < busy) {
        ph_limiter_charge(m->device, m->from, billed);
        post(m->device, m->from, m->from + billed, false);
    } else {
        post(m->device, m->from, m->from + busy, true);
    }
    ph_in_flight_add(m->device, -work->estimate);
    __atomic_sub_fetch(&m->batch->pending, 1, __ATOMIC_RELAXED);
    return true;
}

static struct ph_debt *debt_of(int device) {
    int slot = ph_own_slot();
    return slot >= 0 && slot < PH_MAX_SLOTS && ph_region.extension ? &ph_region.extension->debts[slot][device] : NULL;
}

void ph_measurements_work_begins(int device, int64_t now) {
    struct ph_debt *debt = debt_of(device);
    if (debt && __atomic_load_n(&debt->since, __ATOMIC_RELAXED) == 0) __atomic_store_n(&debt->since, now, __ATOMIC_RELAXED);
}

/* With the reader's mutex held, after everything that is over has been read. */
static void note_debt(int device, int64_t now) {
    struct ph_debt *debt = debt_of(device);
    if (!debt) return;
    int64_t since = ph_batches_open_since(device);
    for (const struct measurement *m = reading; m; m = m->next) {
        int64_t from = !m->started ? now : m->posted ? m->posted_to : m->from;
        if (m->device == device && from < since) since = from;
    }
    __atomic_store_n(&debt->unpaid_ns, ph_coverage_unsettled(&coverage[device], now), __ATOMIC_RELAXED);
    __atomic_store_n(&debt->since, since == INT64_MAX ? 0 : since, __ATOMIC_RELAXED);
    __atomic_store_n(&debt->seen, now, __ATOMIC_RELAXED);
}

static void collect(void) { /* with the reader's mutex held: what was queued since, behind what is being read */
    struct measurement **end = &reading;
    while (*end) end = &(*end)->next;
    pthread_mutex_lock(&queue_mutex);
    *end = queue;
    queue = NULL;
    queue_end = &queue;
    pthread_mutex_unlock(&queue_mutex);
}

void ph_measurements_read(bool from_housekeeper) {
    if (from_housekeeper) pthread_mutex_lock(&reader_mutex);
    else if (pthread_mutex_trylock(&reader_mutex) != 0) return;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED; /* our queries must not break the program's captures */
    bool exchanged = !from_housekeeper && ph_any_capture() && ph_driver.cuThreadExchangeStreamCaptureMode &&
                     ph_driver.cuThreadExchangeStreamCaptureMode(&mode) == CUDA_SUCCESS;
    int64_t now = ph_now();
    int begun[PH_MAX_DEVICES] = { 0 };
    collect();
    /* Streams finish in any order, so all are looked at. */
    for (struct measurement **link = &reading; *link;) {
        struct measurement *m = *link;
        if (!finish(m, now)) {
            begun[m->device] += m->started;
            link = &m->next;
            continue;
        }
        *link = m->next;
        ph_timeline_passed(m->timeline, m->end, now);
        ph_timeline_give_back(m->timeline, m->work.start);
        discard(m);
    }
    for (int i = 0; i < ph_device_count; i++) __atomic_store_n(&running[i], begun[i], __ATOMIC_RELAXED);
    /* Launching threads do it too: the limit must not depend on when the housekeeper gets a turn. */
    if (from_housekeeper || now - settled_at > SETTLE_EVERY_NS) {
        settled_at = now;
        for (int i = 0; i < ph_device_count; i++) {
            ph_coverage_settle(&coverage[i], ph_neighbours_ring(i), now, ph_limiter_charge, i);
            note_debt(i, now);
        }
    }
    if (exchanged) ph_driver.cuThreadExchangeStreamCaptureMode(&mode);
    pthread_mutex_unlock(&reader_mutex);
}

void ph_measurements_forget(CUcontext context) {
    ph_measurements_read(true);
    pthread_mutex_lock(&reader_mutex);
    collect();
    for (struct measurement **link = &reading; *link;) {
        struct measurement *m = *link;
        if (!ph_timeline_belongs(m->timeline, context)) {
            link = &m->next;
            continue;
        }
        *link = m->next;
        ph_measurement_bill_estimate(m->device, &m->work);
        __atomic_sub_fetch(&m->batch->pending, 1, __ATOMIC_RELAXED);
        discard(m);
    }
    pthread_mutex_unlock(&reader_mutex);
}

void ph_measurements_after_fork(void) {
    pthread_mutex_init(&queue_mutex, NULL);
    pthread_mutex_init(&reader_mutex, NULL);
    /* The parent's events mean nothing here; what they occupied is left alone. */
    queue = reading = free_ones = NULL;
    queue_end = &queue;
    waiting = 0;
    memset(running, 0, sizeof running);
    memset(ph_flights, 0, sizeof ph_flights);
    memset(coverage, 0, sizeof coverage);
    memset(container_coverage, 0, sizeof container_coverage);
}
