/* The machine's state in one shared file: set-up, processes and threads, and what the dead leave. */
#include "machine.h"

#include "sanitizer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PROCESS_LOCKS = 0x70000000 };
/* Where virtual time begins: anywhere. Real time begins where the host's clock stands, however long that has been up. */
#define VIRTUAL_EPOCH_NS INT64_C(1000000000000)

struct shared *fg_shared;
bool fg_virtual;
uint64_t fg_watch_limit;
__thread struct thread *fg_self;
struct process *fg_own_process;
static struct fg_settings settings;
static pthread_key_t leave_key;
static int lock_fd = -1;

static int64_t number(const char *name, int64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoll(text, NULL, 0) : otherwise;
}

int64_t fg_machine_now(void) {
    struct timespec now;
    static int (*get)(clockid_t, struct timespec *);
    extern int fg_real_clock_gettime(clockid_t, struct timespec *);
    get = fg_real_clock_gettime;
    get(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void fg_machine_sleep(int64_t ns) {
    struct timespec length = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &length, NULL);
}

bool fg_dead(int pid) {
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
    if (lock_fd < 0) return fg_dead(fg_shared->process[index].pid);
    if (&fg_shared->process[index] == fg_own_process) return false;
    struct flock held = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PROCESS_LOCKS + index, .l_len = 1 };
    return fcntl(lock_fd, F_GETLK, &held) == 0 && held.l_type == F_UNLCK;
}

static void locked(int result) {
    if (result == EOWNERDEAD) pthread_mutex_consistent(&fg_shared->mutex);
}
void fg_lock(void) { locked(fg_mutex_lock(&fg_shared->mutex)); }
void fg_unlock(void) { fg_mutex_unlock(&fg_shared->mutex); }

static void leave(void *mine) {
    struct thread *thread = mine;
    fg_lock();
    thread->state = FG_FREE;
    fg_unlock();
}

static void in_child(void) {
    fg_self = NULL;
    fg_own_process = NULL;
}

static void set_up(void) {
    const char *clock = getenv("FAKE_CUDA_CLOCK");
    fg_virtual = clock && strcmp(clock, "virtual") == 0;
    const char *path = getenv("FAKE_CUDA_SHM");
    int flags = MAP_SHARED;
    if (path) {
        lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (lock_fd < 0 || ftruncate(lock_fd, sizeof *fg_shared) != 0) abort();
    } else {
        flags |= MAP_ANONYMOUS;
    }
    fg_shared = mmap(NULL, sizeof *fg_shared, PROT_READ | PROT_WRITE, flags, lock_fd, 0);
    if (fg_shared == MAP_FAILED) abort();
    uint32_t untouched = 0;
    if (__atomic_compare_exchange_n(&fg_shared->ready, &untouched, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&fg_shared->mutex, &attributes);
        fg_shared->virtual_time = fg_virtual;
        fg_shared->now = fg_virtual ? VIRTUAL_EPOCH_NS : fg_machine_now();
        fg_shared->began = fg_shared->now;
        for (int i = 0; i < FG_DEVICES; i++) fg_shared->device[i].current = -1;
        __atomic_store_n(&fg_shared->ready, 2, __ATOMIC_SEQ_CST);
    }
    while (__atomic_load_n(&fg_shared->ready, __ATOMIC_SEQ_CST) != 2) fg_machine_sleep(100000);
    if (fg_shared->virtual_time != fg_virtual) {
        fprintf(stderr, "fake machine %s: begun on the %s clock, opened on the other (FAKE_CUDA_CLOCK)\n", path ? path : "",
                fg_shared->virtual_time ? "virtual" : "real");
        abort();
    }
    settings.device_count = (int)number("FAKE_CUDA_DEVICES", 1);
    settings.memory_bytes = (uint64_t)number("FAKE_CUDA_MEMORY_MIB", 24576) << 20;
    settings.cuda_version = (int)number("FAKE_CUDA_VERSION", 13050);
    settings.slice_ns = number("FAKE_CUDA_SLICE_US", 1000) * 1000;
    settings.call_ns = number("FAKE_CUDA_CALL_NS", 0);
    settings.context_bytes = (uint64_t)number("FAKE_CUDA_CONTEXT_MIB", 0) << 20;
    settings.module_bytes = (uint64_t)number("FAKE_CUDA_MODULE_MIB", 0) << 20;
    settings.lazy = number("FAKE_CUDA_LAZY", 0) != 0;
    settings.drift_ppm = number("FAKE_CUDA_DRIFT_PPM", 0);
    settings.leap_at = fg_shared->began + number("FAKE_CUDA_LEAP_AT_MS", 0) * 1000000;
    settings.leap = number("FAKE_CUDA_LEAP_MS", 0) * 1000000;
    settings.pid_offset = (int)number("FAKE_NVML_PID_OFFSET", 0);
    fg_watch_limit = (uint64_t)number("FAKE_CUDA_WATCH_LIMIT", 0);
    pthread_key_create(&leave_key, leave);
    pthread_atfork(NULL, NULL, in_child);
}

void fg_ready(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
}
const struct fg_settings *fg_settings(void) { return &settings; }
int64_t fg_gpu_clock(int64_t host) {
    int64_t passed = host - fg_shared->began;
    return passed + passed / 1000000 * settings.drift_ppm + passed % 1000000 * settings.drift_ppm / 1000000 +
           (settings.leap && host >= settings.leap_at ? settings.leap : 0);
}
bool fg_is_virtual(void) {
    fg_ready();
    return fg_virtual;
}

struct process *fg_process_of(int pid) {
    for (int i = 0; i < fg_shared->process_high; i++)
        if (fg_shared->process[i].pid == pid && (pid != getpid() || fg_own_process == &fg_shared->process[i])) return &fg_shared->process[i];
    if (pid != getpid()) return NULL;
    for (int i = 0; i < FG_PROCESSES; i++)
        if (fg_shared->process[i].pid == 0) {
            memset(&fg_shared->process[i], 0, sizeof fg_shared->process[i]);
            fg_shared->process[i].pid = pid;
            struct flock mine = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PROCESS_LOCKS + i, .l_len = 1 };
            if (lock_fd >= 0) fcntl(lock_fd, F_SETLK, &mine);
            fg_own_process = &fg_shared->process[i];
            if (fg_shared->process_high <= i) fg_shared->process_high = i + 1;
            return &fg_shared->process[i];
        }
    return NULL;
}

void fg_drop_dead(void) {
    for (int i = 0; i < fg_shared->thread_high; i++) {
        struct thread *t = &fg_shared->thread[i];
        if (t->state != FG_FREE && (fg_dead(t->pid) || syscall(SYS_tgkill, t->pid, t->tid, 0) != 0)) t->state = FG_FREE;
    }
    for (int i = 0; i < fg_shared->context_high; i++) {
        struct context *c = &fg_shared->context[i];
        if (c->pid == 0 || !fg_dead(c->pid)) continue;
        c->pid = 0;
        if (fg_shared->device[c->device].current == i) fg_choose(c->device, fg_shared->now);
    }
    for (int i = 0; i < fg_shared->process_high; i++)
        if (fg_shared->process[i].pid && gone(i)) {
            fg_shared->process[i].pid = 0;
            memset(fg_shared->process[i].used, 0, sizeof fg_shared->process[i].used);
        }
}

struct thread *fg_take_part(void) {
    if (fg_self) return fg_self;
    int mine = getpid(), tid = (int)syscall(SYS_gettid);
    for (int round = 0; round < 2 && !fg_self; round++) {
        for (int i = 0; i < FG_THREADS && !fg_self; i++)
            if (fg_shared->thread[i].state == FG_FREE) fg_self = &fg_shared->thread[i];
        if (!fg_self) fg_drop_dead();
    }
    if (!fg_self) abort();
    *fg_self = (struct thread){ .pid = mine, .tid = tid, .state = FG_RUNNING };
    if (fg_shared->thread_high <= fg_self - fg_shared->thread) fg_shared->thread_high = (int)(fg_self - fg_shared->thread) + 1;
    pthread_setspecific(leave_key, fg_self);
    return fg_self;
}

void *fg_expect_thread(void) {
    fg_ready();
    fg_lock();
    struct thread *mine = fg_self;
    fg_self = NULL;
    struct thread *expected = fg_take_part();
    fg_self = mine;
    pthread_setspecific(leave_key, mine);
    fg_unlock();
    return expected;
}

void fg_thread_arrived(void *expected) {
    locked(pthread_mutex_lock(&fg_shared->mutex)); /* a sanitizer does not know the thread yet */
    fg_self = expected;
    fg_self->tid = (int)syscall(SYS_gettid);
    pthread_setspecific(leave_key, fg_self);
    pthread_mutex_unlock(&fg_shared->mutex);
}

void fg_leave(void) {
    fg_self = NULL;
    pthread_setspecific(leave_key, NULL);
}
