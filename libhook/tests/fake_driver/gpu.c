#define _GNU_SOURCE
#include "gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PROCESS_LOCKS = 0x70000000 };
enum { FREE, RUNNING, WAITS_TIME, WAITS_SERVICE };

struct thread {
    int pid, tid, state, context;
    int64_t until;
    uint32_t wake;
};
struct point {
    int64_t served, time;
};
struct context {
    int pid, device;
    int64_t served, busy_until;
    uint64_t points;
    struct point point[FG_POINTS]; /* where the line served(time) starts a run: slope 1 until the next */
};
struct device {
    int current; /* context being served, -1 */
    int64_t slice_end, busy;
    uint64_t excess;
};
struct process {
    int pid;
    uint64_t used[FG_DEVICES];
    int64_t busy[FG_DEVICES];
};
struct shared {
    uint32_t ready;
    pthread_mutex_t mutex;
    int64_t now;
    int context_high, thread_high, process_high;
    struct device device[FG_DEVICES];
    struct thread thread[FG_THREADS];
    struct process process[FG_PROCESSES];
    struct context context[FG_CONTEXTS];
};

static struct shared *shared;
static struct fg_settings settings;
static bool is_virtual;
static uint64_t watch_limit;
static __thread struct thread *self;
static pthread_key_t leave_key;
static struct process *own_process;
static int lock_fd = -1;

static int64_t number(const char *name, int64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoll(text, NULL, 0) : otherwise;
}

static int64_t machine_now(void) {
    struct timespec now;
    static int (*get)(clockid_t, struct timespec *);
    extern int fg_real_clock_gettime(clockid_t, struct timespec *);
    get = fg_real_clock_gettime;
    get(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void machine_sleep(int64_t ns) {
    struct timespec length = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &length, NULL);
}

static bool dead(int pid) {
    char path[32], text[512];
    if (pid <= 0 || kill(pid, 0) != 0) return pid <= 0 || errno == ESRCH;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return true;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return true;
    text[length] = 0;
    const char *end = strrchr(text, ')');
    return end && (end[2] == 'Z' || end[2] == 'X');
}

/* A process's memory goes with it, at exec too: a record lock tells, as the hook's slots do. */
static bool gone(int index) {
    if (lock_fd < 0) return dead(shared->process[index].pid);
    if (&shared->process[index] == own_process) return false;
    struct flock held = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PROCESS_LOCKS + index, .l_len = 1 };
    return fcntl(lock_fd, F_GETLK, &held) == 0 && held.l_type == F_UNLCK;
}

static void lock(void) {
    if (pthread_mutex_lock(&shared->mutex) == EOWNERDEAD) pthread_mutex_consistent(&shared->mutex);
}
static void unlock(void) { pthread_mutex_unlock(&shared->mutex); }

static void leave(void *mine) {
    struct thread *thread = mine;
    lock();
    thread->state = FREE;
    unlock();
}

static void in_child(void) {
    self = NULL;
    own_process = NULL;
}

static void set_up(void) {
    const char *path = getenv("FAKE_CUDA_SHM");
    int flags = MAP_SHARED;
    if (path) {
        lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (lock_fd < 0 || ftruncate(lock_fd, sizeof *shared) != 0) abort();
    } else {
        flags |= MAP_ANONYMOUS;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, flags, lock_fd, 0);
    if (shared == MAP_FAILED) abort();
    uint32_t untouched = 0;
    if (__atomic_compare_exchange_n(&shared->ready, &untouched, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&shared->mutex, &attributes);
        shared->now = 1000000000000;
        for (int i = 0; i < FG_DEVICES; i++) shared->device[i].current = -1;
        __atomic_store_n(&shared->ready, 2, __ATOMIC_SEQ_CST);
    }
    while (__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) != 2) machine_sleep(100000);
    settings.device_count = (int)number("FAKE_CUDA_DEVICES", 1);
    settings.memory_bytes = (uint64_t)number("FAKE_CUDA_MEMORY_MIB", 24576) << 20;
    settings.cuda_version = (int)number("FAKE_CUDA_VERSION", 13050);
    settings.slice_ns = number("FAKE_CUDA_SLICE_US", 1000) * 1000;
    settings.call_ns = number("FAKE_CUDA_CALL_NS", 0);
    watch_limit = (uint64_t)number("FAKE_CUDA_WATCH_LIMIT", 0);
    const char *clock = getenv("FAKE_CUDA_CLOCK");
    is_virtual = clock && strcmp(clock, "virtual") == 0;
    pthread_key_create(&leave_key, leave);
    pthread_atfork(NULL, NULL, in_child);
}

void fg_ready(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
}
const struct fg_settings *fg_settings(void) { return &settings; }
bool fg_is_virtual(void) {
    fg_ready();
    return is_virtual;
}

/* GPU */

static bool active(const struct context *c) { return c->pid != 0 && c->busy_until > c->served; }

static void starts_run(struct context *c, int64_t time) {
    c->point[c->points++ % FG_POINTS] = (struct point){ c->served, time };
}

static void choose(int device, int64_t time) {
    struct device *d = &shared->device[device];
    int first = d->current < 0 ? 0 : d->current;
    for (int i = 1; i <= shared->context_high; i++) {
        int at = (first + i) % shared->context_high;
        struct context *c = &shared->context[at];
        if (c->device != device || !active(c)) continue;
        if (at != d->current) starts_run(c, time);
        d->current = at;
        d->slice_end = time + settings.slice_ns;
        return;
    }
    d->current = -1;
}

static struct process *process_of(int pid) {
    for (int i = 0; i < shared->process_high; i++)
        if (shared->process[i].pid == pid && (pid != getpid() || own_process == &shared->process[i])) return &shared->process[i];
    if (pid != getpid()) return NULL;
    for (int i = 0; i < FG_PROCESSES; i++)
        if (shared->process[i].pid == 0) {
            memset(&shared->process[i], 0, sizeof shared->process[i]);
            shared->process[i].pid = pid;
            struct flock mine = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PROCESS_LOCKS + i, .l_len = 1 };
            if (lock_fd >= 0) fcntl(lock_fd, F_SETLK, &mine);
            own_process = &shared->process[i];
            if (shared->process_high <= i) shared->process_high = i + 1;
            return &shared->process[i];
        }
    return NULL;
}

static void serve(int device, int64_t from, int64_t to) {
    struct device *d = &shared->device[device];
    while (d->current >= 0 && from < to) {
        struct context *c = &shared->context[d->current];
        int64_t step = to - from;
        if (c->busy_until - c->served < step) step = c->busy_until - c->served;
        if (d->slice_end - from < step) step = d->slice_end - from;
        if (step > 0 && active(c)) {
            c->served += step;
            d->busy += step;
            struct process *p = process_of(c->pid);
            if (p) p->busy[device] += step;
            from += step;
        }
        if (!active(c) || from >= d->slice_end) choose(device, from);
    }
}

/* When the next thing happens that somebody waits for, or a context ends its slice or its work. */
static int64_t next_event(void) {
    int64_t next = INT64_MAX;
    for (int i = 0; i < shared->thread_high; i++) {
        const struct thread *t = &shared->thread[i];
        if (t->state == WAITS_TIME && t->until < next) next = t->until;
        if (t->state != WAITS_SERVICE) continue;
        const struct context *c = &shared->context[t->context];
        if (shared->device[c->device].current == t->context && shared->now + t->until - c->served < next)
            next = shared->now + t->until - c->served;
    }
    for (int i = 0; i < settings.device_count; i++) {
        const struct device *d = &shared->device[i];
        if (d->current < 0) continue;
        const struct context *c = &shared->context[d->current];
        int64_t end = shared->now + c->busy_until - c->served;
        if (d->slice_end < end) end = d->slice_end;
        if (end < next) next = end;
    }
    return next;
}

static void pass_time(int64_t to) {
    for (int i = 0; i < settings.device_count; i++) serve(i, shared->now, to);
    __atomic_store_n(&shared->now, to, __ATOMIC_RELEASE);
}

static bool satisfied(const struct thread *t) {
    if (t->state == WAITS_TIME) return t->until <= shared->now;
    const struct context *c = &shared->context[t->context];
    return c->pid == 0 || c->served >= t->until;
}

static int wake_satisfied(void) {
    int woken = 0;
    for (int i = 0; i < shared->thread_high; i++) {
        struct thread *t = &shared->thread[i];
        if ((t->state != WAITS_TIME && t->state != WAITS_SERVICE) || !satisfied(t)) continue;
        t->state = RUNNING;
        woken++;
        if (t == self) continue;
        __atomic_add_fetch(&t->wake, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &t->wake, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    return woken;
}

static bool anybody_running(void) {
    for (int i = 0; i < shared->thread_high; i++)
        if (shared->thread[i].state == RUNNING) return true;
    return false;
}

static void drop_dead(void) {
    for (int i = 0; i < shared->thread_high; i++) {
        struct thread *t = &shared->thread[i];
        if (t->state != FREE && (dead(t->pid) || syscall(SYS_tgkill, t->pid, t->tid, 0) != 0)) t->state = FREE;
    }
    for (int i = 0; i < shared->context_high; i++) {
        struct context *c = &shared->context[i];
        if (c->pid == 0 || !dead(c->pid)) continue;
        c->pid = 0;
        if (shared->device[c->device].current == i) choose(c->device, shared->now);
    }
    for (int i = 0; i < shared->process_high; i++)
        if (shared->process[i].pid && gone(i)) {
            shared->process[i].pid = 0;
            memset(shared->process[i].used, 0, sizeof shared->process[i].used);
        }
}

static struct thread *take_part(void) {
    if (self) return self;
    int mine = getpid(), tid = (int)syscall(SYS_gettid);
    for (int round = 0; round < 2 && !self; round++) {
        for (int i = 0; i < FG_THREADS && !self; i++)
            if (shared->thread[i].state == FREE) self = &shared->thread[i];
        if (!self) drop_dead();
    }
    if (!self) abort();
    *self = (struct thread){ .pid = mine, .tid = tid, .state = RUNNING };
    if (shared->thread_high <= self - shared->thread) shared->thread_high = (int)(self - shared->thread) + 1;
    pthread_setspecific(leave_key, self);
    return self;
}

/* With the lock held and this thread's wish in `self`; returns with the lock held and the wish fulfilled. */
static void let_time_pass(void) {
    while (self->state != RUNNING) {
        if (!anybody_running()) {
            int64_t next = next_event();
            if (next != INT64_MAX) {
                if (next > shared->now) pass_time(next);
                if (wake_satisfied() == 0) continue;
                continue;
            }
        }
        uint32_t seen = __atomic_load_n(&self->wake, __ATOMIC_SEQ_CST);
        unlock();
        struct timespec patience = { .tv_nsec = 200000000 };
        long slept = syscall(SYS_futex, &self->wake, FUTEX_WAIT, seen, &patience, NULL, 0);
        int why = errno;
        lock();
        if (slept != 0 && why == ETIMEDOUT) drop_dead();
    }
}

static void catch_up(void) { /* real time: serve until now */
    int64_t now = machine_now();
    if (now > shared->now) pass_time(now);
}

int64_t fg_now(void) {
    fg_ready();
    return is_virtual ? __atomic_load_n(&shared->now, __ATOMIC_ACQUIRE) : machine_now();
}

void fg_wait_until(int64_t when) {
    fg_ready();
    if (!is_virtual) {
        int64_t now = machine_now();
        if (when > now) machine_sleep(when - now);
        return;
    }
    lock();
    take_part();
    if (when > shared->now) {
        self->state = WAITS_TIME;
        self->until = when;
        let_time_pass();
    }
    unlock();
}

void *fg_expect_thread(void) {
    fg_ready();
    lock();
    struct thread *mine = self;
    self = NULL;
    struct thread *expected = take_part();
    self = mine;
    pthread_setspecific(leave_key, mine);
    unlock();
    return expected;
}

void fg_thread_arrived(void *expected) {
    lock();
    self = expected;
    self->tid = (int)syscall(SYS_gettid);
    pthread_setspecific(leave_key, self);
    unlock();
}

void fg_step_aside(void) {
    fg_ready();
    if (!is_virtual) return;
    lock();
    take_part()->state = FREE;
    /* Others may now be the only ones: somebody has to move the clock. */
    if (!anybody_running()) {
        int64_t next = next_event();
        if (next != INT64_MAX) {
            if (next > shared->now) pass_time(next);
            wake_satisfied();
        }
    }
    unlock();
    self = NULL;
    pthread_setspecific(leave_key, NULL);
}

void fg_step_back(void) {
    fg_ready();
    if (!is_virtual) return;
    lock();
    take_part();
    unlock();
}

int fg_context_open(int device) {
    fg_ready();
    lock();
    int found = -1;
    for (int round = 0; round < 2 && found < 0; round++) {
        for (int i = 0; i < FG_CONTEXTS && found < 0; i++)
            if (shared->context[i].pid == 0) found = i;
        if (found < 0) drop_dead();
    }
    if (found >= 0) {
        struct context *c = &shared->context[found];
        c->pid = getpid();
        if (!own_process) own_process = process_of(c->pid);
        c->device = device;
        c->served = c->busy_until = 0;
        c->points = 0;
        if (shared->context_high <= found) shared->context_high = found + 1;
    }
    unlock();
    return found;
}

void fg_context_close(int context) {
    lock();
    struct context *c = &shared->context[context];
    c->pid = 0;
    if (shared->device[c->device].current == context) choose(c->device, shared->now);
    unlock();
}

int64_t fg_context_served(int context) {
    lock();
    if (!is_virtual) catch_up();
    int64_t served = shared->context[context].served;
    unlock();
    return served;
}

int64_t fg_submit(int context, int64_t after, int64_t ns) {
    if (is_virtual && settings.call_ns > 0) fg_wait_until(fg_now() + settings.call_ns);
    lock();
    if (is_virtual) take_part();
    else catch_up();
    struct context *c = &shared->context[context];
    struct device *d = &shared->device[c->device];
    int64_t start = after > c->served ? after : c->served, end = start + ns;
    if (end > c->busy_until) c->busy_until = end;
    if (d->current < 0) choose(c->device, shared->now);
    unlock();
    return end;
}

void fg_wait_served(int context, int64_t until) {
    lock();
    struct context *c = &shared->context[context];
    if (is_virtual) {
        take_part();
        if (c->served < until) {
            self->state = WAITS_SERVICE;
            self->context = context;
            self->until = until;
            let_time_pass();
        }
        unlock();
        return;
    }
    catch_up();
    while (c->pid && c->served < until) {
        int64_t wait = until - c->served;
        unlock();
        machine_sleep(wait < 1000000 ? wait : 1000000);
        lock();
        catch_up();
    }
    unlock();
}

int64_t fg_time_of(int context, int64_t target, int64_t not_before) {
    lock();
    const struct context *c = &shared->context[context];
    int64_t time = not_before;
    uint64_t oldest = c->points > FG_POINTS ? c->points - FG_POINTS : 0;
    for (uint64_t i = c->points; i > oldest; i--) {
        const struct point *p = &c->point[(i - 1) % FG_POINTS];
        if (p->served >= target && i - 1 > oldest) continue;
        time = p->time + (target - p->served);
        break;
    }
    unlock();
    return time > not_before ? time : not_before;
}

int64_t fg_device_busy(int device) {
    fg_ready();
    lock();
    if (!is_virtual) catch_up();
    int64_t busy = shared->device[device].busy;
    unlock();
    return busy;
}

int64_t fg_process_busy(int device, int pid) {
    fg_ready();
    lock();
    int64_t busy = 0;
    for (int i = 0; i < shared->process_high; i++)
        if (shared->process[i].pid == pid) busy = shared->process[i].busy[device];
    unlock();
    return busy;
}

/* Memory */

static uint64_t used_by_all(int device) {
    uint64_t sum = 0;
    for (int i = 0; i < shared->process_high; i++)
        if (shared->process[i].pid) sum += shared->process[i].used[device];
    return sum;
}

bool fg_memory_take(int device, uint64_t bytes) {
    fg_ready();
    lock();
    if (!own_process) own_process = process_of(getpid());
    bool fits = own_process && used_by_all(device) + bytes <= settings.memory_bytes;
    if (!fits && own_process) {
        drop_dead();
        fits = used_by_all(device) + bytes <= settings.memory_bytes;
    }
    if (fits) own_process->used[device] += bytes;
    /* The kernel releases a dying process's locks file by file: give it a moment before calling it an excess. */
    for (int i = 0; watch_limit && i < 20 && used_by_all(device) > watch_limit; i++) {
        drop_dead();
        if (used_by_all(device) > watch_limit) machine_sleep(1000000);
    }
    if (watch_limit && used_by_all(device) > watch_limit + shared->device[device].excess)
        shared->device[device].excess = used_by_all(device) - watch_limit;
    unlock();
    return fits;
}

void fg_memory_give(int device, uint64_t bytes) {
    lock();
    if (own_process) own_process->used[device] -= bytes < own_process->used[device] ? bytes : own_process->used[device];
    unlock();
}

uint64_t fg_memory_used(int device) {
    fg_ready();
    lock();
    drop_dead();
    uint64_t sum = used_by_all(device);
    unlock();
    return sum;
}

uint64_t fg_memory_own(int device) {
    fg_ready();
    lock();
    uint64_t own = own_process ? own_process->used[device] : 0;
    unlock();
    return own;
}

uint64_t fg_memory_excess(int device) {
    fg_ready();
    return shared->device[device].excess;
}
