/* The checker of builds with checks; nothing in others. A thread's locks are a short list in the order they were taken. */
#include "locks.h"

#ifdef PH_CHECKS
#include "log.h"

#include <stdlib.h>

static const char *const names[] = {
#define PH_NAME(lock, use) #lock,
    PH_LOCKS(PH_NAME)
};
static const enum ph_driver_use uses[] = {
#define PH_USE(lock, use) use,
    PH_LOCKS(PH_USE)
};
static const char *const asked[] = { "nothing is asked", "the driver is asked", "the driver may wait", "a library is loaded" };

static __thread struct {
    int count;
    enum ph_lock locks[PH_LOCK_COUNT];
} held;

void ph_lock_comes(enum ph_lock lock) {
    for (int i = 0; i < held.count; i++) {
        if (held.locks[i] < lock) continue;
        ph_error("lock order: %s is taken while %s is held", names[lock], names[held.locks[i]]);
        abort();
    }
}

void ph_lock_held(enum ph_lock lock) {
    if (held.count == PH_LOCK_COUNT) abort();
    held.locks[held.count++] = lock;
}

void ph_lock_gone(enum ph_lock lock) {
    int i = held.count - 1;
    while (i >= 0 && held.locks[i] != lock) i--;
    if (i < 0) {
        ph_error("lock order: %s is given back and was not held", names[lock]);
        abort();
    }
    for (held.count--; i < held.count; i++) held.locks[i] = held.locks[i + 1];
}

void ph_driver_use(enum ph_driver_use use) {
    for (int i = 0; i < held.count; i++) {
        if (uses[held.locks[i]] >= use) continue;
        ph_error("lock order: %s while %s is held", asked[use], names[held.locks[i]]);
        abort();
    }
}

void ph_locks_after_fork(void) { held.count = 0; }
#endif
