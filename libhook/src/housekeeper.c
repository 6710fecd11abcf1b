#define _GNU_SOURCE
#include "housekeeper.h"

#include "activity.h"
#include "batches.h"
#include "driver.h"
#include "limiter.h"
#include "log.h"
#include "measurements.h"
#include "memory.h"
#include "region.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

enum {
    TICK_NS = 1000000, /* while work is measured: bounds how late a finished batch is charged */
    IDLE_TICK_NS = 20000000,
    REFRESH_NS = 50000000,
    REPORT_NS = 1000000000,
};
static const int64_t STAYS_BUSY_NS = 4 * PH_SETTLE_NS;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool runs;

static void tell_region(int64_t elapsed) {
    struct ph_hami_region *hami = ph_region.hami;
    if (__atomic_exchange_n(&ph_gate.active, 0, __ATOMIC_RELAXED)) {
        int32_t seen = __atomic_load_n(&hami->recent_kernel, __ATOMIC_RELAXED);
        /* Below 0 the monitor has stopped us; it alone may end that. */
        if (seen >= 0) __atomic_compare_exchange_n(&hami->recent_kernel, &seen, 2, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        __atomic_store_n(&hami->last_kernel_time, (uint64_t)time(NULL), __ATOMIC_RELAXED);
    }
    int slot = ph_own_slot();
    for (int i = 0; slot >= 0 && i < ph_device_count; i++) {
        int64_t percent = elapsed > 0 ? (ph_limiter_take_busy(i) * 100 + elapsed / 2) / elapsed : 0;
        __atomic_store_n(&hami->slots[slot].utilization[i].sm, (uint64_t)(percent > 100 ? 100 : percent), __ATOMIC_RELAXED);
    }
}

static void *keep_house(void *unused) {
    (void)unused;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED; /* our queries must not break the program's captures */
    if (ph_driver.cuThreadExchangeStreamCaptureMode) ph_driver.cuThreadExchangeStreamCaptureMode(&mode);
    int64_t now = ph_now(), reported = now, refreshed = now, worked = now;
    unsigned int seen = 0;
    for (;;) {
        bool idle = ph_gate_state() != PH_GATE_TIMED || now - worked > STAYS_BUSY_NS;
        ph_sleep_until(now + (idle ? IDLE_TICK_NS : TICK_NS));
        now = ph_now();
        ph_batches_close_quiet(now);
        ph_measurements_read(true);
        if (ph_measurements_pending() || ph_measurements_count() != seen || ph_batches_open_since(-1) != INT64_MAX) worked = now;
        seen = ph_measurements_count();
        if (now - refreshed >= REFRESH_NS) {
            refreshed = now;
            ph_limiter_refresh();
            ph_limiter_pay_for_the_dead(now);
        }
        if (now - reported < REPORT_NS) continue;
        tell_region(now - reported);
        ph_books_refresh();
        reported = now;
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

void ph_housekeeper_start(void) {
    if (PH_LIKELY(__atomic_load_n(&runs, __ATOMIC_RELAXED)) || !ph_region.hami) return;
    pthread_mutex_lock(&mutex);
    if (!runs) {
        __atomic_store_n(&runs, true, __ATOMIC_RELAXED); /* one attempt: a program out of threads is not asked again */
        if (!start()) ph_error("the housekeeper thread cannot be started; finished work is charged by launches alone");
    }
    pthread_mutex_unlock(&mutex);
}

void ph_first_activity(void) {
    __atomic_store_n(&ph_gate.active, 1, __ATOMIC_RELAXED);
    ph_housekeeper_start();
}

void ph_housekeeper_after_fork(void) {
    __atomic_store_n(&ph_gate.active, 0, __ATOMIC_RELAXED); /* the parent's activity started the parent's thread */
    pthread_mutex_init(&mutex, NULL);
    runs = false;
}
