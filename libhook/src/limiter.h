/* The compute limit: when launches wait. Measuring is batches.c and measurements.c, sharing the measurements
 * activity.c, the arithmetic bucket.h, the thread that keeps the books while nobody launches housekeeper.c. */
#pragma once

#include "config.h"
#include "hooks.h"
#include "measurements.h"

void ph_limiter_refresh(void); /* read limits and switches again */
extern uint64_t ph_limits[PH_MAX_DEVICES]; /* percent in force, 0 = none; atomic */

/* A bucket that was open stays open until it is charged: that spares the clock. */
struct ph_seen_open {
    int64_t paid_until, at;
};
extern __thread struct ph_seen_open ph_seen_open[PH_MAX_DEVICES];
void ph_limiter_wait(int device, const struct ph_batch *batch);
/* Returns when the cost is known, unless the GPU does not even begin what is to tell it. */
void ph_limiter_wait_for_first(int device, const struct ph_cost *cost);

/* Returns when a launch onto the stream of `batch` may go: mostly at once. */
static inline void ph_limiter_admit(int device, const struct ph_batch *batch) {
    const struct ph_extension *extension = ph_region.extension;
    if (PH_UNLIKELY(!extension)) return;
    int64_t paid_until = __atomic_load_n(&extension->buckets[device].paid_until_ns, __ATOMIC_RELAXED);
    const struct ph_seen_open *seen = &ph_seen_open[device];
    if (PH_UNLIKELY(paid_until != seen->paid_until || paid_until > seen->at || ph_config.mode != PH_MODE_FIXED ||
                    (ph_in_flight(device) > ph_in_flight_most(device) && __atomic_load_n(&ph_limits[device], __ATOMIC_RELAXED) != 0) ||
                    __atomic_load_n(&ph_region.hami->recent_kernel, __ATOMIC_RELAXED) < 0))
        ph_limiter_wait(device, batch);
}
bool ph_limiter_in_force(void);
/* What a finished measurement does to the bucket. */
void ph_limiter_charge(int device, int64_t used_at, int64_t busy_ns);
/* What processes used that died before they paid. */
void ph_limiter_pay_for_the_dead(int64_t now);
/* ns charged to this process on a device since the last call. */
int64_t ph_limiter_take_busy(int device);
int64_t ph_now(void);
void ph_sleep_until(int64_t when);
