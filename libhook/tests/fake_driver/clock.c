/* Virtual time for everybody in the process, when this library is preloaded: the hook's clock and sleeps are
 * glibc's, so what is tested is the very library that is shipped. */
#define _GNU_SOURCE
#include "gpu.h"

#include "sanitizer.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void *glibc(const char *name);
int fg_real_clock_gettime(clockid_t clock, struct timespec *now);
int fg_real_clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))glibc("clock_gettime");
    return real(clock, now);
}

/* ThreadSanitizer's allocator asks for the time while it holds its locks, the first time before any constructor has
 * run: until then the kernel answers, and what allocates here is over by then. */
static bool loaded;

__attribute__((constructor)) static void load(void) {
    struct timespec now;
    if (fg_sanitizer_watches()) {
        fg_real_clock_gettime(CLOCK_MONOTONIC, &now);
        fg_ready();
    }
    loaded = true;
}

/* By libc's own handle: preloaded libraries that replace dlsym need not understand RTLD_NEXT. */
static void *glibc(const char *name) {
    return dlsym(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD), name);
}

static bool wanted(void) {
    static int answer = -1;
    if (answer < 0) {
        const char *clock = getenv("FAKE_CUDA_CLOCK");
        answer = clock && strcmp(clock, "virtual") == 0;
    }
    return answer == 1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!loaded) return (int)syscall(SYS_clock_gettime, clock, now);
    if (clock != CLOCK_MONOTONIC || !wanted()) return fg_real_clock_gettime(clock, now);
    int64_t ns = fg_now();
    *now = (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *remain) {
    if (clock != CLOCK_MONOTONIC || !wanted()) {
        static int (*real)(clockid_t, int, const struct timespec *, struct timespec *);
        if (!real) real = (int (*)(clockid_t, int, const struct timespec *, struct timespec *))glibc("clock_nanosleep");
        return real(clock, flags, request, remain);
    }
    int64_t ns = (int64_t)request->tv_sec * 1000000000 + request->tv_nsec;
    fg_wait_until(flags & TIMER_ABSTIME ? ns : fg_now() + ns);
    return 0;
}

int nanosleep(const struct timespec *request, struct timespec *remain) {
    if (!wanted()) {
        static int (*real)(const struct timespec *, struct timespec *);
        if (!real) real = (int (*)(const struct timespec *, struct timespec *))glibc("nanosleep");
        return real(request, remain);
    }
    return clock_nanosleep(CLOCK_MONOTONIC, 0, request, remain);
}

int usleep(useconds_t microseconds) {
    struct timespec length = { .tv_sec = microseconds / 1000000, .tv_nsec = (long)(microseconds % 1000000) * 1000 };
    return nanosleep(&length, NULL);
}

struct start {
    void *(*function)(void *);
    void *argument, *expected;
};

static void *begin(void *raw) {
    struct start start = *(struct start *)raw;
    free(raw);
    fg_thread_arrived(start.expected);
    return start.function(start.argument);
}

/* ThreadSanitizer's own thread comes by here too. It sleeps by the kernel's clock, so nobody must wait for it; it is told
 * by what no other thread of the tests has: no attributes, and every signal blocked. */
static bool of_the_sanitizer(const pthread_attr_t *attributes) {
    sigset_t blocked;
    return fg_sanitizer_watches() && !attributes && pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0 && sigismember(&blocked, SIGTERM);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) real = (__typeof__(real))glibc("pthread_create");
    if (!wanted() || of_the_sanitizer(attributes)) return real(thread, attributes, function, argument);
    struct start *start = malloc(sizeof *start);
    if (!start) return EAGAIN;
    *start = (struct start){ function, argument, fg_expect_thread() };
    return real(thread, attributes, begin, start);
}
