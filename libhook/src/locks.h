/* Every lock of the library, in the one order in which a thread may take them, and what the driver may be asked meanwhile.
 * Builds with checks hold all of it (locks.c); in others these are the pthread calls alone. The reasons, and why forks,
 * signals and ends of programs leave nothing shut, are in docs/explanation/how-the-hook-limits.md. */
#pragma once

#include "compiler.h"

#include <pthread.h>
#include <stdbool.h>

/* What a thread asks of the driver. */
enum ph_driver_use {
    PH_NO_DRIVER,
    PH_ASKS,  /* questions that never wait for the GPU, a stream or another thread's call */
    PH_WAITS, /* the program's own calls, and events: may wait for room in a stream's queue */
    PH_LOADS, /* the dynamic linker, which has a lock of its own and runs constructors that may call us: under no lock */
};

/* X(lock, the most that the driver may be asked under it). Who holds one takes only what stands below. */
#define PH_LOCKS(X)                                                                        \
    X(CONFIGURATION, PH_NO_DRIVER) /* init.c: it is read */                                  \
    X(ATTACH, PH_ASKS)        /* attach.c: devices and the region are found */               \
    X(FIRST_CONTEXT, PH_WAITS) /* overhead.c: the process makes its first context */         \
    X(MAPPING, PH_WAITS)      /* vmm.c: what is mapped where; cuMemMap and its like */        \
    X(POOL, PH_ASKS)          /* pool_sizes.c: what a pool holds */                          \
    X(OVERHEAD, PH_ASKS)      /* overhead.c: one measurement by NVML */                      \
    X(READER, PH_ASKS)        /* measurements.c: closed batches are read */                  \
    X(STREAMS, PH_ASKS)       /* streams.c: who is in the table */                           \
    X(BATCH, PH_WAITS)        /* futex_lock.h: the open batch of a stream, and the launch itself */ \
    X(TIMELINE, PH_ASKS)      /* timeline.c: spare events, the base */                       \
    X(CO_TENANTS, PH_NO_DRIVER) /* co_tenants.c: what other containers posted; only tried */ \
    X(ALLOCATIONS, PH_NO_DRIVER) /* allocations.c: the table of them */                      \
    X(CLAIM, PH_NO_DRIVER)    /* slots.c: this process takes its slot */                     \
    X(SLOW, PH_NO_DRIVER)     /* region.c: a byte of the region is locked, for 100 ms at most */ \
    X(QUEUE, PH_NO_DRIVER)    /* measurements.c: the queue and the free list */              \
    X(DRIVER, PH_NO_DRIVER)   /* driver.c: what was looked up is published */                \
    X(HOUSEKEEPER, PH_NO_DRIVER) /* housekeeper.c: its thread is started */

enum ph_lock {
#define PH_LOCK_ID(lock, use) PH_##lock##_LOCK,
    PH_LOCKS(PH_LOCK_ID)
#undef PH_LOCK_ID
    PH_LOCK_COUNT
};

#ifdef PH_CHECKS
void ph_lock_comes(enum ph_lock lock);  /* ends the program where the order forbids it */
void ph_lock_held(enum ph_lock lock);   /* it has been got */
void ph_lock_gone(enum ph_lock lock);
void ph_driver_use(enum ph_driver_use use); /* ends the program where a lock forbids it */
void ph_locks_after_fork(void);
#else
static inline void ph_lock_comes(enum ph_lock lock) { (void)lock; }
static inline void ph_lock_held(enum ph_lock lock) { (void)lock; }
static inline void ph_lock_gone(enum ph_lock lock) { (void)lock; }
static inline void ph_driver_use(enum ph_driver_use use) { (void)use; }
static inline void ph_locks_after_fork(void) {}
#endif

struct ph_mutex {
    pthread_mutex_t mutex;
    enum ph_lock lock;
};
#define PH_MUTEX(which) { .mutex = PTHREAD_MUTEX_INITIALIZER, .lock = PH_##which##_LOCK }

static inline void ph_mutex_lock(struct ph_mutex *m) {
    ph_lock_comes(m->lock);
    pthread_mutex_lock(&m->mutex);
    ph_lock_held(m->lock);
}
/* Waits for nobody, so that it may come out of the order. */
static inline bool ph_mutex_try(struct ph_mutex *m) {
    if (pthread_mutex_trylock(&m->mutex) != 0) return false;
    ph_lock_held(m->lock);
    return true;
}
static inline void ph_mutex_unlock(struct ph_mutex *m) {
    ph_lock_gone(m->lock);
    pthread_mutex_unlock(&m->mutex);
}
/* In the child, whose only thread holds nothing: whoever held it is the parent's. */
static inline void ph_mutex_after_fork(struct ph_mutex *m) { pthread_mutex_init(&m->mutex, NULL); }
