/* The container's GPU time on one device: a post-paid bucket in a single shared word.
 * `paid_until` is virtual time. Using b ns at a share of p percent moves it b·100/p ahead; a launch may go when
 * it is not ahead of now. It never lags more than `burst` behind now: that much unused time may be saved up.
 * Pure but for the atomic word; works across processes, and a killed process leaves it valid. */
#pragma once

#include "compiler.h"

#include <stdint.h>

/* `used_at` is when the time was used: measurements arrive late, and what could be saved up is judged by then.
 * Share error over a window T: at most (burst · p/100 + longest measured batch) / T. */
static inline int64_t ph_bucket_charge(int64_t *paid_until, int64_t used_at, int64_t burst, int64_t busy, uint64_t percent) {
    PH_ASSERT(busy >= 0 && burst >= 0 && percent >= 1 && percent <= 100);
    int64_t old = __atomic_load_n(paid_until, __ATOMIC_RELAXED), fresh;
    do {
        int64_t from = old;
        /* A value far ahead is a hostile or corrupted word: nothing honest owes more than an hour. */
        if (from < used_at - burst || from > used_at + 3600 * (int64_t)1000000000) from = used_at - burst;
        fresh = from + (int64_t)((double)busy * 100.0 / (double)percent);
        PH_ASSERT(fresh >= from); /* time used never gives any back */
    } while (!__atomic_compare_exchange_n(paid_until, &old, fresh, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return fresh;
}

/* Nanoseconds until a launch may go; 0 = now. */
static inline int64_t ph_bucket_wait(const int64_t *paid_until, int64_t now) {
    int64_t until = __atomic_load_n(paid_until, __ATOMIC_RELAXED);
    return until > now && until <= now + 3600 * (int64_t)1000000000 ? until - now : 0;
}
