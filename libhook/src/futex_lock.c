/* The slow halves of futex_lock.h. */
#define _GNU_SOURCE
#include "futex_lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPINS = 100, SLEEP_NS = 100000 };

static void spin(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void ph_futex_lock_wait(struct ph_futex_lock *lock) {
    for (int i = 0; i < SPINS; i++) {
        if (__atomic_load_n(&lock->held, __ATOMIC_RELAXED) == 0 && ph_futex_lock_try(lock)) return;
        spin();
    }
    int before = errno; /* launches leave it alone */
    struct timespec sleep = { .tv_nsec = SLEEP_NS };
    /* The flag stays up once it is ours: others may sleep still. */
    while (__atomic_store_n(&lock->sleepers, 1, __ATOMIC_SEQ_CST), !ph_futex_lock_try(lock))
        syscall(SYS_futex, &lock->held, FUTEX_WAIT_PRIVATE, 1, &sleep, NULL, 0);
    errno = before;
}

void ph_futex_lock_wake(struct ph_futex_lock *lock) {
    int before = errno;
    __atomic_store_n(&lock->sleepers, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &lock->held, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = before;
}
