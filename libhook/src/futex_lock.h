/* A lock for a few instructions and one driver call, taken at every launch: one atomic exchange to take it, a plain
 * store to give it back. Whoever finds it taken spins for a moment and then sleeps; a waker that is missed
 * (the store and the look for sleepers may pass each other) costs a sleeper a tenth of a millisecond. */
#pragma once

#include "locks.h"

#include <stdbool.h>

struct ph_futex_lock {
    int held, sleepers; /* both 0 or 1; the second: somebody may sleep */
};
void ph_futex_lock_wait(struct ph_futex_lock *lock); /* until it is ours */
void ph_futex_lock_wake(struct ph_futex_lock *lock);

static inline bool ph_futex_lock_try(struct ph_futex_lock *lock) {
    if (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE) != 0) return false;
    ph_lock_held(PH_BATCH_LOCK);
    return true;
}

static inline void ph_futex_lock_acquire(struct ph_futex_lock *lock) {
    ph_lock_comes(PH_BATCH_LOCK);
    if (!ph_futex_lock_try(lock)) ph_futex_lock_wait(lock);
}

static inline void ph_futex_lock_release(struct ph_futex_lock *lock) {
    ph_lock_gone(PH_BATCH_LOCK);
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
    if (__atomic_load_n(&lock->sleepers, __ATOMIC_RELAXED) != 0) ph_futex_lock_wake(lock);
}
