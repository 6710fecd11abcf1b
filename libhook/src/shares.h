/* The shares of GPU time: what is in force, whether launches are timed at all, and what measured work costs the container.
 * The arithmetic is bucket.h. */
#pragma once

#include "region.h"

extern uint64_t ph_shares[PH_MAX_DEVICES]; /* percent in force, 0 = none; atomic */
static inline uint64_t ph_share_of(int device) { return __atomic_load_n(&ph_shares[device], __ATOMIC_RELAXED); }
void ph_shares_refresh(void); /* read limits and switches again, and set the gate by them */
bool ph_shares_in_force(void);
/* Launches are timed for the sake of monitors: takes effect with the next refresh. */
void ph_shares_watch(bool wanted);
bool ph_shares_watched(void);
bool ph_told_to_stand_still(void); /* by the monitor */
/* Burst: nobody else works, so the share is not needed to protect anybody. */
bool ph_alone_in_burst(int device, int64_t when);

/* What a finished measurement does to the bucket. */
void ph_shares_charge(int device, int64_t used_at, int64_t busy_ns);
/* What processes used that died before they paid. */
void ph_shares_pay_for_the_dead(int64_t now);
/* ns charged to this process on a device since the last call. */
int64_t ph_shares_take_busy(int device);
