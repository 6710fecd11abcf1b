/* The compute limit: when launches wait. Measuring is batches.c, sharing the measurements activity.c, the
 * arithmetic bucket.h. */
#pragma once

#include "hooks.h"

void ph_limiter_refresh(void);                     /* read limits and switches again; starts the housekeeper */
void ph_limiter_forget_context(CUcontext context); /* before it is destroyed */
void ph_limiter_after_fork(void);
bool ph_any_capture(void);
void ph_limiter_admit(int device, CUstream stream, bool per_thread);
void ph_limiter_first_launch(void);

/* batches.c */
/* Reads finished measurements and charges what has become certain. */
void ph_batches_drain(bool from_housekeeper);
void ph_batches_close(CUstream stream, bool per_thread);
void ph_batches_forget_context(CUcontext context);
void ph_batches_forget_stream(CUstream stream);
void ph_batches_after_fork(void);
int64_t ph_batches_in_flight(int device); /* ns of estimated work launched and not yet measured */
bool ph_batches_idle(void);

/* limiter.c: what a finished measurement does to the bucket */
void ph_limiter_charge(int device, int64_t used_at, int64_t busy_ns);
struct ph_activity_ring *ph_limiter_ring(int device);
int64_t ph_now(void);
void ph_sleep_until(int64_t when);
