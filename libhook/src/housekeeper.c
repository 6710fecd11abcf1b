#define _GNU_SOURCE
#include "housekeeper.h"

#include "batches.h"
#include "reconcile.h"
#include "clock.h"
#include "config.h"
#include "device.h"
#include "locks.h"
#include "log.h"
#include "measurements.h"
#include "shares.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum {
    TICK_NS = 1000000, /* while work is measured: bounds how late a finished batch is charged */
    IDLE_TICK_NS = 20000000,
    REFRESH_NS = 50000000,
    REPORT_NS = 1000000000,
};
static const int64_t STAYS_BUSY_NS = 4 * PH_SETTLE_NS;

static struct ph_mutex mutex = PH_MUTEX(HOUSEKEEPER);
static bool runs;

/* Where nothing limits GPU time, launches are timed for a hundredth of it only, so that monitors see how much is
 * used: a program that launches a lot shows enough in that, and one that launches little is timed all the while. */
enum {
    WATCH_NS = 10000000,
    WATCH_TICK_NS = 5000000,
    WATCH_AFTER_NS = 500000000, /* a report, so that what is measured has been counted at the next */
    FEW_BATCHES = 5, /* in WATCH_NS: at 500 batches a second timing costs less than a hundredth of a core */
};
static struct {
    int64_t reported, since, timed_ns; /* timed_ns: how long launches were timed since the last report */
    unsigned int batches;
    bool done; /* since the last report */
} watch;

static void set_watching(bool wanted, int64_t now) {
    ph_shares_watch(wanted);
    ph_shares_refresh();
    if (!wanted) ph_batches_close_quiet(now + WATCH_AFTER_NS); /* or they would span launches that are not counted */
    watch.since = now;
    watch.done = true;
    watch.batches = ph_measurements_count();
}

static void watch_on(int64_t now, int64_t passed) {
    if (ph_gate_state() == PH_GATE_TIMED) watch.timed_ns += passed;
    if (ph_shares_in_force()) {
        ph_shares_watch(false);
    } else if (!ph_shares_watched()) {
        bool due = ph_config.utilization && !watch.done && now - watch.reported >= WATCH_AFTER_NS;
        if (due && __atomic_load_n(&ph_gate.active, __ATOMIC_RELAXED)) set_watching(true, now);
    } else if (now - watch.since >= WATCH_NS) {
        int64_t spans = (now - watch.since) / WATCH_NS;
        if (ph_measurements_count() - watch.batches > FEW_BATCHES * (unsigned int)spans) set_watching(false, now);
        watch.since = now;
        watch.batches = ph_measurements_count();
    }
}

/* Percent of the time that was timed. What was seen of a part of it only is smoothed over some seconds. */
static uint64_t utilization(uint64_t before, int64_t busy, int64_t elapsed) {
    if (watch.timed_ns <= 0) return before;
    int64_t percent = (busy * 100 + watch.timed_ns / 2) / watch.timed_ns;
    if (watch.timed_ns < elapsed / 2 && before != 0) percent = ((int64_t)before * 3 + percent) / 4;
    return (uint64_t)(percent > 100 ? 100 : percent);
}

static void tell_region(int64_t now) {
    int64_t elapsed = now - watch.reported;
    struct ph_hami_region *hami = ph_region.hami;
    bool active = __atomic_exchange_n(&ph_gate.active, 0, __ATOMIC_RELAXED);
    if (active) {
        int32_t seen = __atomic_load_n(&hami->recent_kernel, __ATOMIC_RELAXED);
        /* Below 0 the monitor has stopped us; it alone may end that. */
        if (seen >= 0) __atomic_compare_exchange_n(&hami->recent_kernel, &seen, 2, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        __atomic_store_n(&hami->last_kernel_time, (uint64_t)time(NULL), __ATOMIC_RELAXED);
    }
    int slot = ph_own_slot();
    for (int i = 0; slot >= 0 && i < ph_device_count; i++) {
        uint64_t *shown = &hami->slots[slot].utilization[i].sm, before = __atomic_load_n(shown, __ATOMIC_RELAXED);
        uint64_t percent = utilization(before > 100 ? 100 : before, ph_shares_take_busy(i), elapsed);
        __atomic_store_n(shown, active || watch.timed_ns > 0 ? percent : 0, __ATOMIC_RELAXED);
    }
    watch.timed_ns = 0;
    watch.done = false;
    watch.reported = now;
}

static void *keep_house(void *unused) {
    (void)unused;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED; /* our queries must not break the program's captures */
    if (ph_driver.cuThreadExchangeStreamCaptureMode) PH_ASK(cuThreadExchangeStreamCaptureMode)(&mode);
    int64_t now = ph_now(), refreshed = now, worked = now;
    unsigned int seen = 0;
    watch.reported = now;
    for (;;) {
        bool idle = (ph_gate_state() != PH_GATE_TIMED && ph_streams_open_since(-1) == INT64_MAX) || now - worked > STAYS_BUSY_NS;
        int64_t before = now;
        ph_sleep_until(now + (idle ? IDLE_TICK_NS : ph_shares_watched() ? WATCH_TICK_NS : TICK_NS));
        now = ph_now();
        watch_on(now, now - before);
        ph_batches_close_quiet(now);
        ph_measurements_read(true);
        if (ph_measurements_pending() || ph_measurements_count() != seen || ph_streams_open_since(-1) != INT64_MAX) worked = now;
        seen = ph_measurements_count();
        if (now - refreshed >= REFRESH_NS) {
            refreshed = now;
            ph_shares_refresh();
            ph_shares_pay_for_the_dead(now);
        }
        if (now - watch.reported < REPORT_NS) continue;
        tell_region(now);
        ph_reconcile();
    }
    return NULL;
}

static bool start(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    sigset_t all, before; /* the program's signals are for the program's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, &attributes, keep_house, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

static void start_once(void) {
    if (PH_LIKELY(__atomic_load_n(&runs, __ATOMIC_RELAXED)) || !ph_region.hami) return;
    ph_mutex_lock(&mutex);
    if (!runs) {
        __atomic_store_n(&runs, true, __ATOMIC_RELAXED); /* one attempt: a program out of threads is not asked again */
        if (!start()) ph_error("the housekeeper thread cannot be started; finished work is charged by launches alone");
    }
    ph_mutex_unlock(&mutex);
}

void ph_first_activity(void) {
    __atomic_store_n(&ph_gate.active, 1, __ATOMIC_RELAXED);
    start_once();
}

void ph_housekeeper_after_fork(void) {
    __atomic_store_n(&ph_gate.active, 0, __ATOMIC_RELAXED); /* the parent's activity started the parent's thread */
    ph_mutex_after_fork(&mutex);
    runs = false;
    ph_shares_watch(false);
    memset(&watch, 0, sizeof watch);
}
