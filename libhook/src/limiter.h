/* The compute limit: when launches wait. Measuring is batches.c and measurements.c, sharing the measurements
 * activity.c, the arithmetic bucket.h, the thread that keeps the books while nobody launches housekeeper.c. */
#pragma once

#include "hooks.h"

void ph_limiter_refresh(void); /* read limits and switches again */
void ph_limiter_admit(int device);
/* What a finished measurement does to the bucket. */
void ph_limiter_charge(int device, int64_t used_at, int64_t busy_ns);
/* ns charged to this process on a device since the last call. */
int64_t ph_limiter_take_busy(int device);
bool ph_any_capture(void); /* graphs.c */
int64_t ph_now(void);
void ph_sleep_until(int64_t when);
