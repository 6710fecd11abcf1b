/* Who waits, and how long. */
#define _GNU_SOURCE
#include "limiter.h"

#include "bucket.h"
#include "clock.h"
#include "config.h"
#include "device.h"
#include "measurements.h"
#include "co_tenants.h"
#include "region.h"
#include "shares.h"

enum {
    LOOK_AGAIN_NS = 1000000, /* at neighbours that work */
    NAP_NS = 10000000,       /* longest sleep before a waiter looks at the limit again */
    POLL_NS = 50000,         /* for measurements */
    NOT_BEGUN_NS = 50000000, /* longer than the turns of a GPU full of neighbours */
    NOT_BEGUN_LEAST_NS = 5000000,
    STILL_SHARE = 8,
    OTHERS_NS = 1000000000,
};
static const int64_t FIRST_NS = 5000000000; /* longer than kernels run whose cost matters before it is known */

/* What this process has queued may be waiting for what its threads do next: a stream stands at a value that the program
 * writes (or another API's semaphore, or a host function), or a kernel runs until the program lets it end. So nothing is
 * waited for that does not come nearer: `still` is for how long launches have been waiting and nothing of ours has begun
 * or ended. Per device, shared by the threads and atomic. */
static struct {
    int64_t since;    /* the first launch that waited after the last progress; 0 = none did */
    int64_t patience; /* with work that the GPU does not begin; 0 = NOT_BEGUN_NS. Less once that was for nothing */
    int64_t given_up; /* `since` of the last time */
} stalls[PH_MAX_DEVICES];

static int64_t still(int device, int64_t now) {
    int64_t since = __atomic_load_n(&stalls[device].since, __ATOMIC_RELAXED);
    if (since != 0 && since > ph_measurements_progress(device)) return now - since;
    __atomic_store_n(&stalls[device].since, now, __ATOMIC_RELAXED);
    return 0;
}

static int64_t patience(int device) {
    int64_t ns = __atomic_load_n(&stalls[device].patience, __ATOMIC_RELAXED);
    return ns ? ns : NOT_BEGUN_NS;
}

/* The GPU does not begin what is queued. Each time halves the patience: programs of this kind do it every frame. */
static bool not_begun(int device, int64_t now) {
    int64_t waited = still(device, now);
    if (ph_measurements_running(device) || waited <= patience(device)) return false;
    int64_t since = __atomic_load_n(&stalls[device].since, __ATOMIC_RELAXED);
    if (__atomic_exchange_n(&stalls[device].given_up, since, __ATOMIC_RELAXED) != since && patience(device) / 2 >= NOT_BEGUN_LEAST_NS)
        __atomic_store_n(&stalls[device].patience, patience(device) / 2, __ATOMIC_RELAXED);
    return true;
}

static void waited_for_something(int device) {
    if (patience(device) < NOT_BEGUN_NS) __atomic_store_n(&stalls[device].patience, patience(device) + NOT_BEGUN_LEAST_NS / 4, __ATOMIC_RELAXED);
}

/* ns that may be queued unmeasured: more and more behind a kernel that does not end, and anything where none begins. */
static int64_t room(int device, int64_t now) {
    int64_t most = ph_in_flight_most(device);
    if (ph_in_flight(device) <= most) return most;
    return not_begun(device, now) ? INT64_MAX : most + still(device, now) / STILL_SHARE;
}

/* ns until this container's window of the period opens; 0 inside it, while what is queued still fits. What is
 * queued may be over and not yet measured, so a window that looks full is looked at again. */
static int64_t window_wait(int device, int64_t now) {
    int64_t period = ph_config.window_period_ns, start = period * ph_config.window_start_percent / 100;
    int64_t at = (now % period - start + period) % period, length = period * (int64_t)ph_share_of(device) / 100;
    if (at >= length) return period - at;
    return at + ph_in_flight(device) < length || room(device, now) > ph_in_flight_most(device) + length ? 0 : POLL_NS;
}

/* 0: go. Otherwise how long to sleep before asking again. */
static int64_t must_wait(int device, int64_t now) {
    if (ph_told_to_stand_still()) return NAP_NS;
    if (ph_config.mode == PH_MODE_BEST_EFFORT && ph_co_tenants_active(device, now)) return LOOK_AGAIN_NS;
    uint64_t limit = ph_share_of(device);
    if (limit == 0) return 0;
    int64_t wait = ph_bucket_wait(&ph_region.extension->buckets[device].paid_until_ns, now);
    /* It has been charged so far, but a rest before it ends protects nobody, and may be what it waits for. */
    if (wait > 0) wait -= ph_measurements_overdue(device) * 100 / (int64_t)limit;
    /* The window is the limit; the bucket only makes kernels longer than a window pay. */
    if (ph_config.mode == PH_MODE_WINDOWS && wait <= ph_config.window_period_ns * 2) wait = window_wait(device, now);
    if (wait > 0 && ph_alone_in_burst(device, now)) wait = 0;
    return wait > NAP_NS ? NAP_NS : wait > 0 ? wait : 0;
}

__thread struct ph_seen_open ph_seen_open[PH_MAX_DEVICES];

/* Others of the container may run what never ends, and are charged for it out of the same bucket: a launch waits for
 * what was owed when it came, and for as much again and a second. */
static int64_t latest(int device, int64_t now) {
    return now + 2 * ph_bucket_wait(&ph_region.extension->buckets[device].paid_until_ns, now) + OTHERS_NS;
}

/* Ranks on the container's other GPUs may be waiting for this launch meanwhile. */
static void hold(int device, int64_t now, int64_t ns) {
    if (ph_device_count > 1) ph_throttle_mark(&ph_region.extension->throttled[device], now, now + ns);
    ph_sleep_until(now + ns);
}

void ph_limiter_wait(int device, const struct ph_batch *batch, ph_close close) {
    int64_t came = 0, until = 0;
    for (;;) {
        int64_t paid_until = __atomic_load_n(&ph_region.extension->buckets[device].paid_until_ns, __ATOMIC_RELAXED);
        int64_t now = ph_now(), wait = 0;
        if (!came) came = now, until = latest(device, now);
        bool flying = ph_share_of(device) != 0 && ph_in_flight(device) > room(device, now);
        ph_seen_open[device] = (struct ph_seen_open){ .paid_until = paid_until, .at = now };
        if (!flying && ((wait = must_wait(device, now)) == 0 || (now > until && !ph_told_to_stand_still()))) break;
        close(batch);
        ph_measurements_read(false);
        if (!flying) hold(device, now, wait);
        else if (ph_in_flight(device) > room(device, now)) ph_sleep_until(now + POLL_NS);
    }
    if (came < ph_measurements_progress(device)) waited_for_something(device);
}

/* A kernel that nobody has measured may run for seconds, and a queue holds hundreds: the second launch waits for what
 * the first has cost. One that does not end, or that the GPU does not begin, may be waiting for what this very program
 * does next. */
void ph_limiter_wait_for_first(int device, const struct ph_cost *cost) {
    if (ph_share_of(device) == 0) return;
    int64_t since = ph_now(), now = since;
    while (ph_measurements_read(false), ph_cost_awaited(cost)) {
        if (not_begun(device, now)) return;
        if (now - since > FIRST_NS) return;
        int64_t nap = (now - since) / 16;
        nap = nap > POLL_NS ? nap : POLL_NS;
        ph_sleep_until(now + (nap < NAP_NS ? nap : NAP_NS));
        now = ph_now();
    }
}
