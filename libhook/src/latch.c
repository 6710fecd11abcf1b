/* The slow halves of latch.h. */
#define _GNU_SOURCE
#include "latch.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TURNS = 100, NAP_NS = 100000 };

static void turn_round(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void ph_latch_wait(struct ph_latch *latch) {
    for (int i = 0; i < TURNS; i++) {
        if (__atomic_load_n(&latch->held, __ATOMIC_RELAXED) == 0 && ph_latch_try(latch)) return;
        turn_round();
    }
    int before = errno; /* launches leave it alone */
    struct timespec nap = { .tv_nsec = NAP_NS };
    /* The flag stays up once it is ours: others may sleep still. */
    while (__atomic_store_n(&latch->sleepers, 1, __ATOMIC_SEQ_CST), !ph_latch_try(latch))
        syscall(SYS_futex, &latch->held, FUTEX_WAIT_PRIVATE, 1, &nap, NULL, 0);
    errno = before;
}

void ph_latch_wake(struct ph_latch *latch) {
    int before = errno;
    __atomic_store_n(&latch->sleepers, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &latch->held, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = before;
}
