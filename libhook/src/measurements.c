#include "measurements.h"

#include "activity.h"
#include "billing.h"
#include "clock.h"
#include "device.h"
#include "locks.h"
#include "co_tenants.h"
#include "shares.h"
#include "slots.h"

#include <stdlib.h>
#include <string.h>

enum {
    LONG_NS = 2000000,   /* work this long is posted while it runs */
    SETTLE_EVERY_NS = 1000000,
    OVERDUE_NS = 50000000, /* longer than others' turns make it */
};

struct measurement {
    struct measurement *next;
    struct ph_batch *batch;
    struct ph_timeline *timeline;
    CUevent end;
    int device;
    bool late, started, posted; /* posted: part of it, while it ran */
    int64_t start_after, end_after; /* neither event was reached before */
    int64_t started_before;     /* the start was */
    int64_t from;               /* host ns, once started */
    int64_t posted_to;          /* up to here */
    int64_t charged, excused;   /* ns of it */
    struct ph_work work;
};

static struct ph_mutex queue_mutex = PH_MUTEX(QUEUE); /* the queue and the free list: a few instructions */
static struct measurement *queue, **queue_end = &queue, *free_ones;
static struct ph_mutex reader_mutex = PH_MUTEX(READER); /* everything a reader uses, below */
static struct measurement *reading;
static struct ph_coverage coverage[PH_MAX_DEVICES];
static int64_t settled_at;
static int waiting;        /* measurements not yet read */
static int running[PH_MAX_DEVICES]; /* of them, those that the GPU had begun at the last look */
static int64_t overdue[PH_MAX_DEVICES];    /* ns charged for those of them that should be over */
static int64_t progress[PH_MAX_DEVICES];   /* when one of them was last seen to begin or end */
static unsigned int count; /* measurements ever */

struct ph_in_flight ph_flights[PH_MAX_DEVICES];
bool ph_measurements_pending(void) { return __atomic_load_n(&waiting, __ATOMIC_RELAXED) != 0; }
bool ph_measurements_running(int device) { return __atomic_load_n(&running[device], __ATOMIC_RELAXED) != 0; }
int64_t ph_measurements_overdue(int device) { return __atomic_load_n(&overdue[device], __ATOMIC_RELAXED); }
int64_t ph_measurements_progress(int device) { return __atomic_load_n(&progress[device], __ATOMIC_RELAXED); }
unsigned int ph_measurements_count(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

void ph_measurement_bill_estimate(struct ph_batch *batch, const struct ph_work *work) {
    __atomic_sub_fetch(&batch->queued, work->launches, __ATOMIC_RELAXED);
    ph_in_flight_add(batch->device, -work->estimate);
    ph_shares_charge(batch->device, work->opened_at, work->estimate);
}

void ph_measurement_add(struct ph_batch *batch, CUevent end, bool late) {
    ph_mutex_lock(&queue_mutex);
    struct measurement *m = free_ones;
    if (m) free_ones = m->next;
    ph_mutex_unlock(&queue_mutex);
    if (!m && !(m = malloc(sizeof *m))) {
        ph_timeline_give_back(batch->timeline, end);
        ph_timeline_give_back(batch->timeline, batch->work.start);
        ph_measurement_bill_estimate(batch, &batch->work);
        return;
    }
    *m = (struct measurement){ .batch = batch, .timeline = batch->timeline, .end = end, .device = batch->device, .late = late,
                               .start_after = batch->work.opened_at, .end_after = batch->work.closed_at, .work = batch->work };
    __atomic_add_fetch(&batch->pending, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&waiting, 1, __ATOMIC_RELAXED);
    if (m->work.only) ph_cost_await(m->work.only, 1);
    __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    ph_mutex_lock(&queue_mutex);
    *queue_end = m;
    queue_end = &m->next;
    ph_mutex_unlock(&queue_mutex);
}

static void discard(struct measurement *m) {
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_RELAXED);
    if (m->work.only) ph_cost_await(m->work.only, -1);
    ph_mutex_lock(&queue_mutex);
    m->next = free_ones;
    free_ones = m;
    ph_mutex_unlock(&queue_mutex);
}

static struct ph_activity_ring *container_ring(int device) {
    return ph_region.extension ? &ph_region.extension->activity[device] : NULL;
}

static void post(int device, int64_t from, int64_t to, bool own) {
    ph_coverage_add(&coverage[device], container_ring(device), from, to, own);
}

static bool contended(const struct measurement *m, int64_t busy) {
    int64_t from = m->from - PH_BIN_NS, to = m->from + busy + PH_BIN_NS;
    ph_co_tenants_look(m->device, ph_now());
    int64_t all = ph_ring_total(container_ring(m->device), from, to) + ph_ring_total(ph_co_tenants_ring(m->device), from, to);
    return all - ph_ring_total(&coverage[m->device].posted, from, to) > busy / 8;
}

static void went_on(int device, int64_t now) { __atomic_store_n(&progress[device], now, __ATOMIC_RELAXED); }

/* `now` was read before. */
static bool reached(CUevent event, int64_t now, int64_t *after) {
    if (PH_REAL(cuEventQuery)(event) == CUDA_SUCCESS) return true;
    *after = now;
    return false;
}

static bool begun(struct measurement *m, int64_t now) {
    if (m->started) return true;
    if (!reached(m->work.start, now, &m->start_after)) return false;
    m->started_before = ph_now();
    m->from = ph_timeline_host(m->timeline, m->work.start, m->start_after, m->started_before) + m->work.lead;
    if (m->from > now) m->from = now;
    m->started = true;
    went_on(m->device, m->started_before);
    return true;
}

/* Posts [from, to) of its time. What goes beyond twice what it usually takes is not charged as far as launches onto the
 * container's other GPUs have been held: it is then most likely waiting for such a rank, in a collective. */
static void post_part(struct measurement *m, int64_t from, int64_t to) {
    int64_t usual = m->from + 2 * m->work.estimate, at;
    if (ph_device_count <= 1 || !ph_region.extension || m->work.unmeasured || usual > to) usual = to;
    at = usual > from ? usual : from;
    if (at < to) {
        int64_t free = ph_throttle_excuse(ph_region.extension->throttled, ph_device_count, m->device, to, to - at);
        post(m->device, at, at + free, false);
        post(m->device, at + free, to, true);
        m->excused += free;
        m->charged += to - at - free;
    }
    if (at > from) {
        post(m->device, from, at, true);
        m->charged += at - from;
    }
}

static bool held_elsewhere(const struct measurement *m, int64_t busy) {
    if (ph_device_count <= 1 || !ph_region.extension) return false;
    if (m->excused > busy / 8) return true;
    return ph_throttle_overlap(ph_region.extension->throttled, ph_device_count, m->device, m->from, m->from + busy) > busy / 8;
}

static void post_so_far(struct measurement *m, int64_t now) {
    if (now - m->from <= LONG_NS) return;
    post_part(m, m->posted ? m->posted_to : m->from, now); /* long work is charged while it runs */
    m->posted = true;
    m->posted_to = now;
}

static void bill(struct measurement *m, int64_t busy) {
    const struct ph_work *work = &m->work;
    struct ph_facts facts = { .busy = busy, .expected = work->estimate, .launches = work->launches, .believed = work->believed,
                              .late = m->late, .posted = m->posted };
    facts.contended = busy > facts.expected && contended(m, busy);
    int64_t billed = ph_bill(&facts);
    if (billed < busy) {
        ph_coverage_spread(&coverage[m->device], container_ring(m->device), m->from, m->from + busy, billed);
    } else if (!m->posted || m->from + busy > m->posted_to) {
        post_part(m, m->posted ? m->posted_to : m->from, m->from + busy);
    }
}

/* Never free, and never longer than it can have been: the GPU's clock leaps when the host sleeps. */
static int64_t busy_of(const struct measurement *m, int64_t ended_before) {
    int64_t busy, most = ended_before - m->start_after;
    if (!ph_elapsed(m->work.start, m->end, &busy) || busy < 0) busy = m->work.estimate;
    if (busy > most + most / 1000) busy = most;
    return busy - m->work.lead > busy / 16 ? busy - m->work.lead : busy / 16;
}

/* False while it runs. */
static bool finish(struct measurement *m, int64_t now) {
    const struct ph_work *work = &m->work;
    if (!begun(m, now)) return false;
    if (!reached(m->end, now, &m->end_after)) {
        post_so_far(m, now);
        return false;
    }
    int64_t ended_before = ph_now(), busy = busy_of(m, ended_before);
    bill(m, busy);
    if (!m->late && work->launches == 1 && work->only) ph_cost_learn(work->only, busy, held_elsewhere(m, busy));
    went_on(m->device, ended_before);
    ph_in_flight_add(m->device, -work->estimate);
    __atomic_sub_fetch(&m->batch->pending, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&m->batch->queued, work->launches, __ATOMIC_RELAXED);
    ph_timeline_passed(m->timeline, m->end, m->end_after, ended_before);
    ph_timeline_give_back(m->timeline, work->start);
    return true;
}

static struct ph_unbilled *unbilled_of(int device) {
    int slot = ph_own_slot();
    return slot >= 0 && slot < PH_MAX_SLOTS && ph_region.extension ? &ph_region.extension->unbilled[slot][device] : NULL;
}

void ph_measurements_work_begins(int device, int64_t now) {
    struct ph_unbilled *unbilled = unbilled_of(device);
    if (unbilled && __atomic_load_n(&unbilled->since, __ATOMIC_RELAXED) == 0) __atomic_store_n(&unbilled->since, now, __ATOMIC_RELAXED);
}

/* With the reader's mutex held, after everything that is over has been read. */
static void note_debt(int device, int64_t now) {
    struct ph_unbilled *unbilled = unbilled_of(device);
    if (!unbilled) return;
    int64_t since = ph_streams_open_since(device);
    for (const struct measurement *m = reading; m; m = m->next) {
        int64_t from = !m->started ? now : m->posted ? m->posted_to : m->from;
        if (m->device == device && from < since) since = from;
    }
    __atomic_store_n(&unbilled->unpaid_ns, ph_coverage_unsettled(&coverage[device], now), __ATOMIC_RELAXED);
    __atomic_store_n(&unbilled->since, since == INT64_MAX ? 0 : since, __ATOMIC_RELAXED);
    __atomic_store_n(&unbilled->seen, now, __ATOMIC_RELAXED);
}

static void collect(void) { /* with the reader's mutex held: what was queued since, behind what is being read */
    struct measurement **end = &reading;
    while (*end) end = &(*end)->next;
    ph_mutex_lock(&queue_mutex);
    *end = queue;
    queue = NULL;
    queue_end = &queue;
    ph_mutex_unlock(&queue_mutex);
}

void ph_measurements_read(bool from_housekeeper) {
    if (from_housekeeper) ph_mutex_lock(&reader_mutex);
    else if (!ph_mutex_try(&reader_mutex)) return;
    /* Our queries must not break the program's captures, and one may begin at any moment. */
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    bool exchanged = ph_driver.cuThreadExchangeStreamCaptureMode && PH_ASK(cuThreadExchangeStreamCaptureMode)(&mode) == CUDA_SUCCESS;
    int64_t now = ph_now(), late[PH_MAX_DEVICES] = { 0 };
    int started[PH_MAX_DEVICES] = { 0 };
    collect();
    /* Streams finish in any order, so all are looked at. */
    for (struct measurement **link = &reading; *link;) {
        struct measurement *m = *link;
        if (!finish(m, now)) {
            started[m->device] += m->started;
            if (m->started && now - m->from > OVERDUE_NS + 4 * m->work.estimate) late[m->device] += m->charged;
            link = &m->next;
            continue;
        }
        *link = m->next;
        discard(m);
    }
    for (int i = 0; i < ph_device_count; i++) {
        __atomic_store_n(&running[i], started[i], __ATOMIC_RELAXED);
        __atomic_store_n(&overdue[i], late[i], __ATOMIC_RELAXED);
    }
    /* Launching threads do it too: the limit must not depend on when the housekeeper gets a turn. */
    if (from_housekeeper || now - settled_at > SETTLE_EVERY_NS) {
        settled_at = now;
        for (int i = 0; i < ph_device_count; i++) {
            ph_co_tenants_look(i, now);
            ph_coverage_settle(&coverage[i], container_ring(i), ph_co_tenants_ring(i), now, ph_shares_charge, i);
            note_debt(i, now);
        }
    }
    if (exchanged) PH_ASK(cuThreadExchangeStreamCaptureMode)(&mode);
    ph_mutex_unlock(&reader_mutex);
}

void ph_measurements_forget(CUcontext context) {
    ph_measurements_read(true);
    ph_mutex_lock(&reader_mutex);
    collect();
    for (struct measurement **link = &reading; *link;) {
        struct measurement *m = *link;
        if (!ph_timeline_belongs(m->timeline, context)) {
            link = &m->next;
            continue;
        }
        *link = m->next;
        ph_measurement_bill_estimate(m->batch, &m->work);
        __atomic_sub_fetch(&m->batch->pending, 1, __ATOMIC_RELAXED);
        discard(m);
    }
    ph_mutex_unlock(&reader_mutex);
}

void ph_measurements_after_fork(void) {
    ph_mutex_after_fork(&queue_mutex);
    ph_mutex_after_fork(&reader_mutex);
    /* The parent's events mean nothing here; what they occupied is left alone. */
    queue = reading = free_ones = NULL;
    queue_end = &queue;
    waiting = 0;
    memset(running, 0, sizeof running);
    memset(overdue, 0, sizeof overdue);
    memset(progress, 0, sizeof progress);
    memset(ph_flights, 0, sizeof ph_flights);
    memset(coverage, 0, sizeof coverage);
}
