#define _GNU_SOURCE
#include "shares.h"

#include "bucket.h"
#include "config.h"
#include "device.h"
#include "gate.h"
#include "limits.h"
#include "co_tenants.h"
#include "paths.h"
#include "slots.h"

uint64_t ph_shares[PH_MAX_DEVICES];
static int64_t own_busy[PH_MAX_DEVICES];
static bool in_force; /* something must be timed, whether or not anybody wants to know the utilisation */
static bool watched;

/* The share in force: the lower of the node's word and the region's (the monitor may change it), 100 = none. */
static uint64_t share(int device) {
    uint64_t configured = __atomic_load_n(&ph_config.core_limit[device], __ATOMIC_RELAXED);
    if (!ph_region.hami) return configured;
    uint64_t shared = __atomic_load_n(&ph_region.hami->sm_limit[device], __ATOMIC_RELAXED);
    return ph_limit_in_force(configured, shared >= 100 ? 0 : shared, ph_config.trusted);
}

static bool switched_off(void) {
    if (ph_config.policy != PH_POLICY_DEFAULT) return ph_config.policy == PH_POLICY_DISABLE;
    if (ph_config.trusted) return false;
    return ph_region.hami && __atomic_load_n(&ph_region.hami->utilization_switch, __ATOMIC_RELAXED) == 0;
}

bool ph_told_to_stand_still(void) {
    return ph_region.hami && __atomic_load_n(&ph_region.hami->recent_kernel, __ATOMIC_RELAXED) < 0;
}

bool ph_alone_in_burst(int device, int64_t when) {
    return ph_config.mode == PH_MODE_BURST && ph_co_tenants_known() && !ph_co_tenants_active(device, when);
}

static void pay(int device, int64_t used_at, int64_t busy_ns) {
    uint64_t limit = ph_share_of(device);
    struct ph_bucket *bucket = &ph_region.extension->buckets[device];
    __atomic_add_fetch(&bucket->busy_ns, (uint64_t)busy_ns, __ATOMIC_RELAXED);
    if (limit == 0 || ph_alone_in_burst(device, used_at)) return;
    ph_bucket_charge(&bucket->paid_until_ns, used_at, ph_config.burst_ns, busy_ns, limit);
}

void ph_shares_charge(int device, int64_t used_at, int64_t busy_ns) {
    if (busy_ns <= 0) return;
    __atomic_add_fetch(&own_busy[device], busy_ns, __ATOMIC_RELAXED);
    if (ph_region.extension) pay(device, used_at, busy_ns);
}

void ph_shares_pay_for_the_dead(int64_t now) {
    if (!ph_region.extension) return;
    ph_region_reap_unbilled(now);
    for (int i = 0; i < ph_device_count; i++) {
        int64_t left = __atomic_exchange_n(&ph_region.extension->buckets[i].left_ns, 0, __ATOMIC_RELAXED);
        if (left > 0) pay(i, now, left < PH_UNBILLED_MOST_NS * 10 ? left : PH_UNBILLED_MOST_NS * 10);
    }
}

bool ph_shares_in_force(void) { return __atomic_load_n(&in_force, __ATOMIC_RELAXED); }
int64_t ph_shares_take_busy(int device) { return __atomic_exchange_n(&own_busy[device], 0, __ATOMIC_RELAXED); }

bool ph_shares_watched(void) { return __atomic_load_n(&watched, __ATOMIC_RELAXED); }
void ph_shares_watch(bool wanted) { __atomic_store_n(&watched, wanted, __ATOMIC_RELAXED); }

void ph_shares_refresh(void) {
    bool off = switched_off() || ph_config.mode == PH_MODE_MPS;
    bool timed = ph_told_to_stand_still();
    ph_co_tenants_open();
    ph_config_follow_limits(&ph_config, ph_config_owner());
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        uint64_t limit = off ? 0 : share(i);
        __atomic_store_n(&ph_shares[i], limit, __ATOMIC_RELAXED);
        timed = timed || limit != 0;
    }
    /* Best effort waits for others, and others can only see us if we are measured too. */
    timed = timed || ((ph_config.mode == PH_MODE_BEST_EFFORT || ph_co_tenants_known()) && !off);
    __atomic_store_n(&in_force, timed, __ATOMIC_RELAXED);
    __atomic_store_n(&ph_gate.state, timed || ph_shares_watched() ? PH_GATE_TIMED : PH_GATE_OPEN, __ATOMIC_RELEASE);
}
