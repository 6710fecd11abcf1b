/* Who waits, how long, and the housekeeper thread that keeps the books while nobody launches. */
#define _GNU_SOURCE
#include "limiter.h"

#include "account.h"
#include "activity.h"
#include "bucket.h"
#include "config.h"
#include "driver.h"
#include "log.h"
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    TICK_NS = 1000000,         /* housekeeper, while work is measured: bounds how late a finished batch is charged */
    IDLE_TICK_NS = 20000000,
    NAP_NS = 10000000,         /* longest sleep before a waiter looks at the limit again */
    POLL_NS = 50000,           /* a waiter for measurements */
    OTHERS_NS = 20000000,      /* another container counts as active this long after its last work */
};

static uint64_t limits[PH_MAX_DEVICES]; /* percent in force, 0 = none */
static struct ph_activity_file *node_activity;
static pthread_t housekeeper;
static bool housekeeper_runs;
static int64_t own_busy[PH_MAX_DEVICES]; /* since the last report to the region */

int64_t ph_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void ph_sleep_until(int64_t when) {
    struct timespec until = { .tv_sec = when / 1000000000, .tv_nsec = when % 1000000000 };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* The share in force: the lower of the node's word and the region's (the monitor may change it), 100 = none. */
static uint64_t share(int device) {
    uint64_t configured = ph_config.core_limit[device], shared = configured;
    if (ph_region.hami) {
        shared = __atomic_load_n(&ph_region.hami->sm_limit[device], __ATOMIC_RELAXED);
        if (shared >= 100) shared = 0;
    }
    if (!ph_config.trusted) return shared;
    return configured == 0 ? shared : shared != 0 && shared < configured ? shared : configured;
}

static bool switched_off(void) {
    if (ph_config.policy == PH_POLICY_FORCE || ph_config.trusted) return false;
    if (ph_config.policy == PH_POLICY_DISABLE) return true;
    return ph_region.hami && __atomic_load_n(&ph_region.hami->utilization_switch, __ATOMIC_RELAXED) == 0;
}

static bool told_to_stand_still(void) {
    return ph_region.hami && __atomic_load_n(&ph_region.hami->recent_kernel, __ATOMIC_RELAXED) < 0;
}

static void open_activity(void) {
    if (node_activity || !ph_config.activity_path[0]) return;
    int fd = open(ph_config.activity_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
        (info.st_size < (off_t)sizeof *node_activity && ftruncate(fd, sizeof *node_activity) != 0)) {
        ph_error("%s cannot be used: other containers' GPU activity stays unknown", ph_config.activity_path);
        if (fd >= 0) close(fd);
        ph_config.activity_path[0] = 0;
        return;
    }
    if (info.st_uid == geteuid()) (void)!fchmod(fd, 0666);
    void *map = mmap(NULL, sizeof *node_activity, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) node_activity = map;
}

struct ph_activity_ring *ph_limiter_ring(int device) {
    if (node_activity) return &node_activity->devices[device];
    return ph_region.extension ? &ph_region.extension->activity[device] : NULL;
}

/* Work of other containers just now. Only the node's ring knows. */
static bool others_active(int device, int64_t now) {
    if (!node_activity || !ph_region.extension) return false;
    int64_t everybody = ph_ring_total(&node_activity->devices[device], now - OTHERS_NS, now);
    int64_t container = ph_ring_total(&ph_region.extension->activity[device], now - OTHERS_NS, now);
    return everybody > container + PH_BIN_NS / 10;
}

void ph_limiter_charge(int device, int64_t used_at, int64_t busy_ns) {
    if (busy_ns <= 0) return;
    __atomic_add_fetch(&own_busy[device], busy_ns, __ATOMIC_RELAXED);
    if (!ph_region.extension) return;
    struct ph_bucket *bucket = &ph_region.extension->buckets[device];
    __atomic_add_fetch(&bucket->busy_ns, (uint64_t)busy_ns, __ATOMIC_RELAXED);
    if (limits[device] == 0 || (ph_config.mode == PH_MODE_BURST && node_activity && !others_active(device, used_at))) return;
    ph_bucket_charge(&bucket->paid_until_ns, used_at, ph_config.burst_ns, busy_ns, limits[device]);
}

/* ns until this container's window of the period opens; 0 inside it, while what is queued still fits. */
static int64_t window_wait(int device, int64_t now) {
    int64_t period = ph_config.window_period_ns, start = period * ph_config.window_start_percent / 100;
    int64_t at = (now % period - start + period) % period, length = period * (int64_t)limits[device] / 100;
    return at + ph_batches_in_flight(device) < length ? 0 : period - at;
}

/* 0: go. Otherwise how long to sleep before asking again. */
static int64_t must_wait(int device, int64_t now) {
    if (told_to_stand_still()) return NAP_NS;
    if (ph_config.mode == PH_MODE_BEST_EFFORT && others_active(device, now)) return TICK_NS;
    if (limits[device] == 0) return 0;
    int64_t wait = ph_bucket_wait(&ph_region.extension->buckets[device].paid_until_ns, now);
    if (ph_config.mode == PH_MODE_WINDOWS) {
        /* The window is the limit; the bucket only makes kernels longer than a window pay. */
        if (wait <= ph_config.window_period_ns * 2) wait = window_wait(device, now);
    }
    if (ph_config.mode == PH_MODE_BURST && wait > 0 && node_activity && !others_active(device, now)) wait = 0;
    return wait > NAP_NS ? NAP_NS : wait;
}

/* Called by every timed launch. `last_open` spares the clock: a bucket that was open stays open until charged. */
static __thread int64_t last_seen[PH_MAX_DEVICES], seen_at[PH_MAX_DEVICES];

void ph_limiter_admit(int device, CUstream stream, bool per_thread) {
    if (!ph_region.extension) return;
    for (;;) {
        int64_t paid_until = __atomic_load_n(&ph_region.extension->buckets[device].paid_until_ns, __ATOMIC_RELAXED);
        bool flying = limits[device] != 0 && ph_batches_in_flight(device) > ph_config.in_flight_ns;
        if (PH_LIKELY(!flying && paid_until == last_seen[device] && paid_until <= seen_at[device] &&
                      ph_config.mode == PH_MODE_FIXED && !told_to_stand_still())) return;
        int64_t now = ph_now();
        last_seen[device] = paid_until;
        seen_at[device] = now;
        if (flying) {
            ph_batches_close(stream, per_thread);
            ph_batches_drain(false);
            if (ph_batches_in_flight(device) > ph_config.in_flight_ns) ph_sleep_until(now + POLL_NS);
            continue;
        }
        int64_t wait = must_wait(device, now);
        if (wait == 0) return;
        ph_batches_close(stream, per_thread);
        ph_batches_drain(false);
        ph_sleep_until(now + wait);
    }
}

static void tell_region(int64_t elapsed) {
    struct ph_hami_region *hami = ph_region.hami;
    if (!hami) return;
    if (ph_gate.active) {
        ph_gate.active = 0;
        if (__atomic_load_n(&hami->recent_kernel, __ATOMIC_RELAXED) >= 0)
            __atomic_store_n(&hami->recent_kernel, 2, __ATOMIC_RELAXED);
        __atomic_store_n(&hami->last_kernel_time, (uint64_t)time(NULL), __ATOMIC_RELAXED);
    }
    if (ph_region.slot < 0) return;
    for (int i = 0; i < ph_device_count; i++) {
        int64_t busy = __atomic_exchange_n(&own_busy[i], 0, __ATOMIC_RELAXED);
        int64_t percent = elapsed > 0 ? (busy * 100 + elapsed / 2) / elapsed : 0;
        hami->slots[ph_region.slot].utilization[i].sm = (uint64_t)(percent > 100 ? 100 : percent);
    }
}

static void *keep_house(void *unused) {
    (void)unused;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED; /* our queries must not break the program's captures */
    if (ph_driver.cuThreadExchangeStreamCaptureMode) ph_driver.cuThreadExchangeStreamCaptureMode(&mode);
    int64_t reported = ph_now(), refreshed = reported;
    for (;;) {
        bool idle = ph_gate.state != PH_GATE_TIMED || ph_batches_idle();
        ph_sleep_until(ph_now() + (idle ? IDLE_TICK_NS : TICK_NS));
        int64_t now = ph_now();
        ph_batches_drain(true);
        if (now - refreshed >= 50000000) {
            refreshed = now;
            ph_limiter_refresh();
        }
        if (now - reported < 1000000000) continue;
        tell_region(now - reported);
        ph_pools_refresh();
        reported = now;
    }
    return NULL;
}

static void start_housekeeper(void) {
    pthread_attr_t attributes;
    if (housekeeper_runs || !ph_region.hami) return;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    housekeeper_runs = pthread_create(&housekeeper, &attributes, keep_house, NULL) == 0;
    pthread_attr_destroy(&attributes);
    if (!housekeeper_runs) ph_error("the housekeeper thread cannot be started; finished work is charged by launches alone");
}

void ph_limiter_refresh(void) {
    bool timed = told_to_stand_still();
    bool off = switched_off() || ph_config.mode == PH_MODE_MPS;
    open_activity();
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        limits[i] = off ? 0 : share(i);
        timed = timed || limits[i] != 0;
    }
    /* Best effort waits for others, and others can only see us if we are measured too. */
    timed = timed || ((ph_config.mode == PH_MODE_BEST_EFFORT || node_activity) && !off);
    __atomic_store_n(&ph_gate.state, timed ? PH_GATE_TIMED : PH_GATE_OPEN, __ATOMIC_RELEASE);
}

void ph_limiter_first_launch(void) {
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    if (PH_LIKELY(housekeeper_runs)) return;
    pthread_mutex_lock(&once);
    start_housekeeper();
    pthread_mutex_unlock(&once);
}

void ph_limiter_forget_context(CUcontext context) { ph_batches_forget_context(context); }

void ph_limiter_after_fork(void) {
    housekeeper_runs = false;
    ph_batches_after_fork();
}
