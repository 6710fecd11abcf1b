/* The compute limit: when launches wait. Measuring is batches.c and measurements.c, sharing the measurements
 * activity.c, what they cost shares.c, the thread that bills while nobody launches housekeeper.c. */
#pragma once

#include "config.h"
#include "measurements.h"
#include "shares.h"

/* A bucket that was open stays open until it is charged: that spares the clock. */
struct ph_seen_open {
    int64_t paid_until, at;
};
extern __thread struct ph_seen_open ph_seen_open[PH_MAX_DEVICES];
/* Closes every open batch, so that it can be measured; `own` is the caller's. batches.c, which is above, hands it over. */
typedef void (*ph_close)(const struct ph_batch *own);
void ph_limiter_wait(int device, const struct ph_batch *batch, ph_close close);
/* Returns when the cost is known, unless the GPU does not even begin what is to tell it. */
void ph_limiter_wait_for_first(int device, const struct ph_cost *cost);

/* Returns when a launch onto the stream of `batch` may go: mostly at once. */
static inline void ph_limiter_admit(int device, const struct ph_batch *batch, ph_close close) {
    const struct ph_extension *extension = ph_region.extension;
    if (PH_UNLIKELY(!extension)) return;
    int64_t paid_until = __atomic_load_n(&extension->buckets[device].paid_until_ns, __ATOMIC_RELAXED);
    const struct ph_seen_open *seen = &ph_seen_open[device];
    if (PH_UNLIKELY(paid_until != seen->paid_until || paid_until > seen->at || ph_config.mode != PH_MODE_FIXED ||
                    (ph_in_flight(device) > ph_in_flight_most(device) && ph_share_of(device) != 0) ||
                    __atomic_load_n(&ph_region.hami->recent_kernel, __ATOMIC_RELAXED) < 0))
        ph_limiter_wait(device, batch, close);
}
