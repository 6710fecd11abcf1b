#define _GNU_SOURCE
#include "overhead.h"

#include "account.h"
#include "config.h"
#include "device.h"
#include "allocations.h"
#include "locks.h"
#include "log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTED = 1024, TRIES = 3 };
static const ino_t FIRST_PID_NAMESPACE = 0xEFFFFFFCu; /* Linux: PROC_PID_INIT_INO */

static struct ph_mutex mutex = PH_MUTEX(OVERHEAD);
static struct ph_mutex first_context = PH_MUTEX(FIRST_CONTEXT);
static unsigned int pid_at_nvml; /* 0: not known yet */

static bool measured(void) { return ph_config.context_memory == PH_CONTEXT_MEASURED && ph_region.hami; }

/* -1: NVML cannot tell. */
static int list(int ordinal, nvmlProcessInfo_v2_t infos[LISTED]) {
    unsigned int count = LISTED;
    nvmlDevice_t device;
    if (!ph_driver_nvml() || !ph_driver.nvmlDeviceGetHandleByUUID) return -1;
    if (PH_ASK(nvmlDeviceGetHandleByUUID)(ph_device_uuids[ordinal], &device) != NVML_SUCCESS) return -1;
    nvmlReturn_t result = PH_REAL(nvmlDeviceGetComputeRunningProcesses_v3)(device, &count, infos);
    if (result == NVML_ERROR_FUNCTION_NOT_FOUND) {
        count = LISTED;
        result = PH_REAL(nvmlDeviceGetComputeRunningProcesses_v2)(device, &count, infos);
    }
    return result == NVML_SUCCESS ? (int)count : -1;
}

static bool in_first_namespace(void) {
    struct stat info;
    return stat("/proc/self/ns/pid", &info) == 0 && info.st_ino == FIRST_PID_NAMESPACE;
}

static bool was_there(const struct ph_new_context *fresh, unsigned int pid) {
    for (unsigned int i = 0; i < fresh->count; i++)
        if (fresh->before[i] == pid) return true;
    return false;
}

static void find_own_pid(const struct ph_new_context *fresh) {
    nvmlProcessInfo_v2_t infos[LISTED];
    int count = list(fresh->ordinal, infos), appeared = 0;
    unsigned int found = 0;
    for (int i = 0; i < count; i++) {
        if (infos[i].pid == (unsigned int)getpid() && in_first_namespace()) found = infos[i].pid, appeared = 1, i = count;
        else if (!was_there(fresh, infos[i].pid)) found = infos[i].pid, appeared++;
    }
    if (appeared != 1) return;
    __atomic_store_n(&pid_at_nvml, found, __ATOMIC_RELAXED);
    if (ph_own_slot() >= 0) ph_region.hami->slots[ph_own_slot()].host_pid = (int32_t)found;
}

/* Bytes of this process on a GPU; false: unknown. A process that is not listed has no context there. */
static bool held(int ordinal, uint64_t *bytes) {
    nvmlProcessInfo_v2_t infos[LISTED];
    unsigned int own = __atomic_load_n(&pid_at_nvml, __ATOMIC_RELAXED);
    int count = own ? list(ordinal, infos) : -1;
    *bytes = 0;
    for (int i = 0; i < count; i++)
        if (infos[i].pid == own) *bytes = infos[i].usedGpuMemory;
    return count >= 0 && *bytes != (uint64_t)NVML_VALUE_NOT_AVAILABLE;
}

/* `reserved`: what the caller has reserved and not yet booked. */
static bool measure(int ordinal, uint64_t reserved) {
    bool done = false;
    uint64_t bytes;
    ph_mutex_lock(&mutex);
    for (int i = 0; i < TRIES && !done; i++) {
        uint64_t booked = ph_allocations_bytes(ordinal);
        if (ph_own_bytes(ordinal) != booked + reserved || !held(ordinal, &bytes)) continue;
        if (ph_allocations_bytes(ordinal) != booked || ph_own_bytes(ordinal) != booked + reserved) continue;
        struct ph_entry entry = { .key = (uint64_t)ordinal, .holding = PH_OVERHEAD, .device = ordinal };
        if (!ph_allocations_find(PH_OVERHEAD, entry.key, &entry)) ph_allocations_add(entry);
        uint64_t asked_for = booked - entry.bytes, overhead = bytes > asked_for ? bytes - asked_for : 0;
        ph_allocations_resize(PH_OVERHEAD, entry.key, overhead);
        ph_show_overhead(ordinal, overhead);
        done = true;
    }
    ph_mutex_unlock(&mutex);
    return done;
}

void ph_overhead_refresh(void) {
    if (!measured() || !__atomic_load_n(&pid_at_nvml, __ATOMIC_RELAXED)) return;
    for (int i = 0; i < ph_device_count; i++) measure(i, 0);
}

/* Two processes of the container that appear at once could not be told apart. A holder may be stopped, so this is
 * given up after a while; no lock of the allocators' is held meanwhile. */
static void lock_first_context(void) {
    ph_mutex_lock(&first_context);
    for (int waited = 0; waited < 3000 && ph_region_reachable(); waited++) {
        if (ph_region_lock_byte(ph_region.fd, PH_LOCK_CONTEXT, F_WRLCK) == 0) return;
        poll(NULL, 0, 1);
    }
}

static void unlock_first_context(void) {
    if (ph_region_reachable()) ph_region_lock_byte(ph_region.fd, PH_LOCK_CONTEXT, F_UNLCK);
    ph_mutex_unlock(&first_context);
}

void ph_context_begins(struct ph_new_context *fresh) {
    if (!measured() || __atomic_load_n(&pid_at_nvml, __ATOMIC_RELAXED)) return;
    ph_driver_start_nvml(); /* before the lock */
    lock_first_context();
    fresh->locked = true;
    nvmlProcessInfo_v2_t infos[LISTED];
    int count = list(fresh->ordinal, infos);
    for (int i = 0; i < count && fresh->count < sizeof fresh->before / sizeof *fresh->before; i++)
        fresh->before[fresh->count++] = infos[i].pid;
}

CUresult ph_context_made(struct ph_new_context *fresh, CUresult result, const CUcontext *context) {
    bool known = false;
    if (measured() && result == CUDA_SUCCESS) {
        if (!__atomic_load_n(&pid_at_nvml, __ATOMIC_RELAXED)) find_own_pid(fresh);
        known = measure(fresh->ordinal, fresh->reserved);
        if (!known) ph_warn("NVML does not tell what this process holds: each context is charged %llu bytes (context_bytes)",
                            (unsigned long long)fresh->reserved);
    }
    if (fresh->locked) unlock_first_context();
    if (known || result != CUDA_SUCCESS) {
        ph_release(fresh->ordinal, fresh->reserved);
    } else if (fresh->reserved) {
        ph_allocations_add((struct ph_entry){ .key = (uintptr_t)*context, .holding = PH_CONTEXT, .device = fresh->ordinal,
                                         .bytes = fresh->reserved, .other = (uintptr_t)*context });
    }
    return result;
}

void ph_overhead_after_fork(void) {
    ph_mutex_after_fork(&mutex);
    ph_mutex_after_fork(&first_context);
    pid_at_nvml = 0;
}
