/* A lock for a few instructions and one driver call, taken at every launch: one atomic exchange to take it, a plain
 * store to give it back. Whoever finds it taken turns round for a moment and then sleeps; a waker that is missed
 * (the store and the look for sleepers may pass each other) costs a sleeper a tenth of a millisecond. */
#pragma once

#include "locks.h"

#include <stdbool.h>

struct ph_latch {
    int held, sleepers; /* both 0 or 1; the second: somebody may sleep */
};
void ph_latch_wait(struct ph_latch *latch); /* until it is ours */
void ph_latch_wake(struct ph_latch *latch);

static inline bool ph_latch_try(struct ph_latch *latch) {
    if (__atomic_exchange_n(&latch->held, 1, __ATOMIC_ACQUIRE) != 0) return false;
    ph_lock_held(PH_LATCH_LOCK);
    return true;
}

static inline void ph_latch_take(struct ph_latch *latch) {
    ph_lock_comes(PH_LATCH_LOCK);
    if (!ph_latch_try(latch)) ph_latch_wait(latch);
}

static inline void ph_latch_give(struct ph_latch *latch) {
    ph_lock_gone(PH_LATCH_LOCK);
    __atomic_store_n(&latch->held, 0, __ATOMIC_RELEASE);
    if (__atomic_load_n(&latch->sleepers, __ATOMIC_RELAXED) != 0) ph_latch_wake(latch);
}
