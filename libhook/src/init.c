#define _GNU_SOURCE
#include "init.h"

#include "attach.h"
#include "batches.h"
#include "captures.h"
#include "clock.h"
#include "config.h"
#include "driver.h"
#include "hooks.h"
#include "housekeeper.h"
#include "interpose.h"
#include "allocations.h"
#include "locks.h"
#include "log.h"
#include "mps.h"
#include "co_tenants.h"
#include "overhead.h"
#include "paths.h"
#include "pool_sizes.h"
#include "shares.h"
#include "slots.h"
#include "vmm.h"

#include <pthread.h>
#include <stdlib.h>

static struct ph_mutex configuration_mutex = PH_MUTEX(CONFIGURATION);
static bool initialized, watching_forks;

static void in_child(void) {
    ph_locks_after_fork();
    ph_mutex_after_fork(&configuration_mutex);
    ph_driver_after_fork();
    ph_attach_after_fork();
    ph_region_after_fork();
    ph_slots_after_fork();
    ph_allocations_after_fork();
    ph_overhead_after_fork();
    ph_pools_after_fork();
    ph_vmm_after_fork();
    ph_captures_after_fork();
    ph_housekeeper_after_fork();
    ph_batches_after_fork();
    ph_co_tenants_after_fork();
}

static void read_log_level(void) {
    long level = 0;
    if (ph_parse_number(getenv("LIBCUDA_LOG_LEVEL"), 0, 9, &level)) ph_log_level = (int)level;
}

void ph_initialize(void) {
    /* Before the mutex: opening a library runs constructors, and they may call us. */
    ph_driver_open_cuda();
    ph_mutex_lock(&configuration_mutex);
    if (!initialized) {
        read_log_level();
        ph_config_load(&ph_config, ph_node_path(), ph_config_path(), ph_config_owner());
        if (!watching_forks) pthread_atfork(NULL, NULL, in_child);
        watching_forks = true;
        ph_mps_hand_share();
        if (!ph_config.present) __atomic_store_n(&ph_gate.state, PH_GATE_OPEN, __ATOMIC_RELEASE);
        initialized = true;
    }
    ph_mutex_unlock(&configuration_mutex);
}

CUresult ph_init(const struct ph_call *call, unsigned int flags) {
    ph_report_unknown();
    CUresult result = PH_NEXT(call, cuInit)(flags);
    if (result != CUDA_SUCCESS) return result;
    ph_attach_after_init();
    if (!ph_config.present) return result;
    bool claimed = ph_region_claim_slot(); /* programs that only compute are seen too */
    ph_shares_pay_for_the_dead(ph_now());
    if (!ph_config.fail_closed || (claimed && ph_region.state == PH_REGION_SHARED && !ph_config.unreadable)) return result;
    ph_error("CUDA is refused: the container's limits cannot be held for all its processes, and on_error is closed. The line "
             "before this one says why.");
    return CUDA_ERROR_NOT_PERMITTED;
}

void ph_initialize_at_launch(void) {
    ph_initialize();
    ph_attach();
}
