#define _GNU_SOURCE
#include "attach.h"

#include "compiler.h"
#include "config.h"
#include "device.h"
#include "gate.h"
#include "locks.h"
#include "mps.h"
#include "shares.h"


static struct ph_mutex mutex = PH_MUTEX(ATTACH); /* devices and the region, while they are found */
static bool attached;

void ph_attach(void) {
    if (PH_LIKELY(__atomic_load_n(&attached, __ATOMIC_ACQUIRE))) return;
    if (ph_config.present) ph_devices_prepare();
    ph_mutex_lock(&mutex);
    if (!attached && ph_config.present) {
        ph_devices_find();
        if (ph_device_count > 0) {
            struct ph_region_defaults defaults = {
                .device_count = ph_device_count,
                .memory_limit = ph_config.memory_limit,
                .core_limit = ph_config.core_limit,
                .uuids = (const char(*)[PH_UUID_SIZE])ph_device_uuids,
                .priority = ph_config.priority,
            };
            ph_region_open(ph_config.region_path, &defaults);
            if (ph_region.state == PH_REGION_SHARED)
                ph_devices_adopt((const char(*)[PH_UUID_SIZE])ph_region.hami->uuids, (int)ph_region.hami->device_count);
            ph_shares_refresh();
            __atomic_store_n(&ph_gate.active, 0, __ATOMIC_RELAXED); /* seen before there was a region: noted again */
            __atomic_store_n(&attached, true, __ATOMIC_RELEASE);
        }
    }
    ph_mutex_unlock(&mutex);
}

void ph_attach_after_init(void) {
    ph_mutex_lock(&mutex);
    if (ph_mps_take_share_back() && ph_region.hami) ph_shares_refresh();
    ph_mutex_unlock(&mutex);
    ph_attach();
    if (!ph_config.present) return;
    ph_mutex_lock(&mutex);
    ph_devices_match(); /* NVML may have been asked before CUDA was there */
    ph_mutex_unlock(&mutex);
}

void ph_attach_after_fork(void) { ph_mutex_after_fork(&mutex); }
