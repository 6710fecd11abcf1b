/* Life cycle. Nothing happens when the library is loaded; the first intercepted call finds the driver and the
 * configuration, the first that succeeds after cuInit opens the shared region. fork starts over in the child. */
#define _GNU_SOURCE
#include "account.h"
#include "batches.h"
#include "config.h"
#include "driver.h"
#include "housekeeper.h"
#include "limiter.h"
#include "log.h"
#include "memory.h"
#include "neighbours.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct ph_gate ph_gate;
static pthread_mutex_t start_mutex = PTHREAD_MUTEX_INITIALIZER;
static bool started, attached, watching_forks;

static void in_child(void) {
    pthread_mutex_init(&start_mutex, NULL);
    ph_driver_after_fork();
    ph_region_after_fork();
    ph_ledger_after_fork();
    ph_overhead_after_fork();
    ph_pools_after_fork();
    ph_vmm_after_fork();
    ph_captures_after_fork();
    ph_housekeeper_after_fork();
    ph_batches_after_fork();
    ph_neighbours_after_fork();
}

static void read_log_level(void) {
    long level = 0;
    if (ph_parse_number(getenv("LIBCUDA_LOG_LEVEL"), 0, 9, &level)) ph_log_level = (int)level;
}

/* MPS reads its percentage when a program initialises CUDA. Without a daemon the hook waits instead: a limit that
 * nobody enforces would be none. */
static void hand_share_to_mps(void) {
    char control[sizeof ph_config.mps_pipe + 16], percentage[16];
    if (ph_config.mode != PH_MODE_MPS) return;
    snprintf(control, sizeof control, "%s/control", ph_config.mps_pipe);
    if (access(control, F_OK) != 0) {
        ph_warn("no MPS daemon at %s: the hook holds the share by waiting", ph_config.mps_pipe);
        ph_config.mode = PH_MODE_FIXED;
        return;
    }
    uint64_t least = 100; /* MPS knows one percentage for all GPUs of a program */
    for (int i = 0; i < PH_MAX_DEVICES; i++)
        if (ph_config.core_limit[i] && ph_config.core_limit[i] < least) least = ph_config.core_limit[i];
    snprintf(percentage, sizeof percentage, "%d", (int)least);
    long given;
    if (!ph_parse_number(getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), 1, (long)least, &given))
        setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", percentage, 1);
    setenv("CUDA_MPS_PIPE_DIRECTORY", ph_config.mps_pipe, 1);
}

/* A daemon that died leaves its files, and without one the driver goes on without MPS. Drivers that do not know the
 * question are believed to have found it. */
static bool mps_serves_every_gpu(void) {
    int count = 0, shared = 1;
    if (!ph_driver.cuDeviceGetCount || ph_driver.cuDeviceGetCount(&count) != CUDA_SUCCESS) return true;
    for (int i = 0; i < count && shared; i++) {
        CUdevice device;
        if (ph_driver.cuDeviceGet(&device, i) != CUDA_SUCCESS || !ph_driver.cuDeviceGetAttribute ||
            ph_driver.cuDeviceGetAttribute(&shared, CU_DEVICE_ATTRIBUTE_MPS_ENABLED, device) != CUDA_SUCCESS)
            shared = 1;
    }
    return shared != 0;
}

static void take_share_back_from_mps(void) {
    if (ph_config.mode != PH_MODE_MPS || mps_serves_every_gpu()) return;
    ph_warn("the driver does not use the MPS daemon at %s: the hook holds the share by waiting", ph_config.mps_pipe);
    ph_config.mode = PH_MODE_FIXED;
    if (ph_region.hami) ph_limiter_refresh();
}

void ph_start(void) {
    /* Before the mutex: opening a library runs constructors, and they may call us. */
    ph_driver_open_cuda();
    pthread_mutex_lock(&start_mutex);
    if (!started) {
        read_log_level();
        ph_config_load(&ph_config, ph_node_path(), ph_config_path(), ph_config_owner());
        if (!watching_forks) pthread_atfork(NULL, NULL, in_child);
        watching_forks = true;
        hand_share_to_mps();
        if (!ph_config.present) __atomic_store_n(&ph_gate.state, PH_GATE_OPEN, __ATOMIC_RELEASE);
        started = true;
    }
    pthread_mutex_unlock(&start_mutex);
}

void ph_attach(void) {
    if (PH_LIKELY(__atomic_load_n(&attached, __ATOMIC_ACQUIRE))) return;
    ph_ensure_started();
    pthread_mutex_lock(&start_mutex);
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
            ph_limiter_refresh();
            __atomic_store_n(&ph_gate.active, 0, __ATOMIC_RELAXED); /* seen before there was a region: noted again */
            __atomic_store_n(&attached, true, __ATOMIC_RELEASE);
        }
    }
    pthread_mutex_unlock(&start_mutex);
}

CUresult ph_init(const struct ph_call *call, unsigned int flags) {
    ph_report_unknown();
    CUresult result = PH_NEXT(call, cuInit)(flags);
    if (result != CUDA_SUCCESS) return result;
    pthread_mutex_lock(&start_mutex);
    take_share_back_from_mps();
    pthread_mutex_unlock(&start_mutex);
    ph_attach();
    if (!ph_config.present) return result;
    pthread_mutex_lock(&start_mutex);
    ph_devices_match(); /* NVML may have been asked before CUDA was there */
    pthread_mutex_unlock(&start_mutex);
    bool claimed = ph_region_claim_slot(); /* programs that only compute are seen too */
    ph_limiter_pay_for_the_dead(ph_now());
    if (!ph_config.fail_closed || (claimed && ph_region.state == PH_REGION_SHARED && !ph_config.unreadable)) return result;
    ph_error("CUDA is refused: the container's limits cannot be held for all its processes, and on_error is closed. The line "
             "before this one says why.");
    return CUDA_ERROR_NOT_PERMITTED;
}
