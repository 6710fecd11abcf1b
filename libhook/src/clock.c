#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <time.h>

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
