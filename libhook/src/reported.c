/* What programs are told: the container's share of a GPU, from one place, so that cuMemGetInfo,
 * cuDeviceTotalMem, NVML and the process list agree. NULL arguments are the driver's to judge. */
#define _GNU_SOURCE
#include "account.h"
#include "attach.h"
#include "reconcile.h"
#include "device.h"
#include "hooks.h"
#include "slots.h"

#include <stdint.h>
#include <unistd.h>

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Narrows what the driver said about a device to the limit. */
static void narrow(int device, uint64_t *free_bytes, uint64_t *total_bytes) {
    uint64_t limit = ph_memory_limit(device);
    if (limit == 0) return;
    ph_region_reap(); /* what the dead held is free */
    uint64_t used = ph_usage(device);
    *free_bytes = least(*free_bytes, used >= limit ? 0 : limit - used);
    *total_bytes = least(*total_bytes, limit);
}

CUresult ph_mem_get_info(const struct ph_call *call, size_t *free_bytes, size_t *total_bytes) {
    size_t real_free = 0, real_total = 0;
    CUresult result = PH_NEXT(call, cuMemGetInfo_v2)(&real_free, &real_total);
    if (result != CUDA_SUCCESS || (!free_bytes && !total_bytes)) return result;
    ph_attach();
    ph_reconcile();
    uint64_t f = real_free, t = real_total;
    narrow(ph_current_ordinal(), &f, &t);
    if (free_bytes) *free_bytes = f;
    if (total_bytes) *total_bytes = t;
    return result;
}

CUresult ph_mem_get_info_v1(const struct ph_call *call, unsigned int *free_bytes, unsigned int *total_bytes) {
    unsigned int real_free = 0, real_total = 0;
    CUresult result = PH_NEXT(call, cuMemGetInfo)(&real_free, &real_total);
    if (result != CUDA_SUCCESS || (!free_bytes && !total_bytes)) return result;
    ph_attach();
    ph_reconcile();
    uint64_t f = real_free, t = real_total;
    narrow(ph_current_ordinal(), &f, &t);
    if (free_bytes) *free_bytes = (unsigned int)f;
    if (total_bytes) *total_bytes = (unsigned int)t;
    return result;
}

CUresult ph_device_total_mem(const struct ph_call *call, size_t *bytes, CUdevice device) {
    CUresult result = PH_NEXT(call, cuDeviceTotalMem_v2)(bytes, device);
    if (result != CUDA_SUCCESS || !bytes) return result;
    ph_attach();
    uint64_t unused = 0, total = *bytes;
    narrow(ph_ordinal(device), &unused, &total);
    *bytes = total;
    return result;
}

CUresult ph_device_total_mem_v1(const struct ph_call *call, unsigned int *bytes, CUdevice device) {
    CUresult result = PH_NEXT(call, cuDeviceTotalMem)(bytes, device);
    if (result != CUDA_SUCCESS || !bytes) return result;
    ph_attach();
    uint64_t unused = 0, total = *bytes;
    narrow(ph_ordinal(device), &unused, &total);
    *bytes = (unsigned int)total;
    return result;
}

/* NVML */

static int limited_device(nvmlDevice_t device) {
    ph_attach();
    int ordinal = ph_nvml_ordinal(device);
    return ordinal >= 0 && ph_region.hami && ph_memory_limit(ordinal) != 0 ? ordinal : -1;
}

/* NVML counts by device, so used is the container's whole use, not the difference to the driver's free. */
static bool narrow_nvml(nvmlDevice_t device, unsigned long long *total, unsigned long long *used, unsigned long long *free_bytes) {
    int ordinal = limited_device(device);
    if (ordinal < 0) return false;
    ph_region_reap();
    *total = least(*total, ph_memory_limit(ordinal));
    *used = least(ph_usage(ordinal), *total);
    *free_bytes = *total - *used;
    return true;
}

nvmlReturn_t ph_nvml_memory(const struct ph_call *call, nvmlDevice_t device, nvmlMemory_t *memory) {
    ph_driver_open_nvml();
    nvmlReturn_t result = PH_NEXT(call, nvmlDeviceGetMemoryInfo)(device, memory);
    if (result == NVML_SUCCESS && memory) narrow_nvml(device, &memory->total, &memory->used, &memory->free);
    return result;
}

nvmlReturn_t ph_nvml_memory_v2(const struct ph_call *call, nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    ph_driver_open_nvml();
    nvmlReturn_t result = PH_NEXT(call, nvmlDeviceGetMemoryInfo_v2)(device, memory);
    if (result == NVML_SUCCESS && memory && narrow_nvml(device, &memory->total, &memory->used, &memory->free)) memory->reserved = 0;
    return result;
}

/* The container's processes under the pids that are valid in it. The driver's own list has host pids, of
 * everybody on the GPU. */
struct found {
    unsigned int pid;
    uint64_t bytes;
};

static unsigned int own_processes(int ordinal, struct found *list, unsigned int room) {
    unsigned int count = 0;
    ph_region_reap();
    int32_t high = ph_region.hami->slot_high_water;
    for (int32_t i = 0; i < high && i < PH_MAX_SLOTS && count < room; i++) {
        const struct ph_slot *slot = &ph_region.hami->slots[i];
        uint64_t total = __atomic_load_n(&slot->used[ordinal].total, __ATOMIC_RELAXED);
        if (slot->status == 0 || slot->pid <= 0 || total == 0) continue;
        list[count++] = (struct found){ (unsigned int)slot->pid, total };
    }
    return count;
}

/* NVML's protocol: too small a buffer, or none, gets the wanted count back with INSUFFICIENT_SIZE. */
static nvmlReturn_t offer(unsigned int found, unsigned int *count, const void *buffer) {
    unsigned int room = buffer ? *count : 0;
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t ph_nvml_processes(const struct ph_call *call, nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    ph_driver_open_nvml();
    int ordinal = count ? limited_device(device) : -1;
    if (ordinal < 0) return PH_NEXT(call, nvmlDeviceGetComputeRunningProcesses_v3)(device, count, infos);
    struct found list[PH_MAX_SLOTS];
    unsigned int found = own_processes(ordinal, list, PH_MAX_SLOTS);
    nvmlReturn_t result = offer(found, count, infos);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < found; i++)
        infos[i] = (nvmlProcessInfo_v2_t){ .pid = list[i].pid, .usedGpuMemory = list[i].bytes,
                                           .gpuInstanceId = 0xFFFFFFFFu, .computeInstanceId = 0xFFFFFFFFu };
    return result;
}

nvmlReturn_t ph_nvml_processes_v1(const struct ph_call *call, nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    ph_driver_open_nvml();
    int ordinal = count ? limited_device(device) : -1;
    if (ordinal < 0) return PH_NEXT(call, nvmlDeviceGetComputeRunningProcesses)(device, count, infos);
    struct found list[PH_MAX_SLOTS];
    unsigned int found = own_processes(ordinal, list, PH_MAX_SLOTS);
    nvmlReturn_t result = offer(found, count, infos);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < found; i++)
        infos[i] = (nvmlProcessInfo_v1_t){ .pid = list[i].pid, .usedGpuMemory = list[i].bytes };
    return result;
}

/* A layout that we do not know is refused: the driver would fill it with everybody's processes. */
nvmlReturn_t ph_nvml_process_details(const struct ph_call *call, nvmlDevice_t device, nvmlProcessDetailList_t *plist) {
    ph_driver_open_nvml();
    int ordinal = plist ? limited_device(device) : -1;
    if (ordinal < 0) return PH_NEXT(call, nvmlDeviceGetRunningProcessDetailList)(device, plist);
    if (plist->version != nvmlProcessDetailList_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (plist->mode >= NVML_PROCESS_MODE_MAX) return NVML_ERROR_INVALID_ARGUMENT;
    bool wanted = plist->mode == NVML_PROCESS_MODE_COMPUTE || plist->mode == NVML_PROCESS_MODE_ALL;
    struct found list[PH_MAX_SLOTS];
    unsigned int found = wanted ? own_processes(ordinal, list, PH_MAX_SLOTS) : 0;
    nvmlReturn_t result = offer(found, &plist->numProcArrayEntries, plist->procArray);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < found; i++)
        plist->procArray[i] = (nvmlProcessDetail_v1_t){ .pid = list[i].pid, .usedGpuMemory = list[i].bytes,
                                                        .gpuInstanceId = 0xFFFFFFFFu, .computeInstanceId = 0xFFFFFFFFu };
    return result;
}

/* Graphics and MPS lists would name other containers' processes; ours are all in the compute list. */
nvmlReturn_t ph_nvml_no_processes(const struct ph_call *call, nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    ph_driver_open_nvml();
    if (!count || limited_device(device) < 0) return PH_NEXT(call, nvmlDeviceGetGraphicsRunningProcesses_v3)(device, count, infos);
    return offer(0, count, infos);
}

nvmlReturn_t ph_nvml_no_processes_v1(const struct ph_call *call, nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    ph_driver_open_nvml();
    if (!count || limited_device(device) < 0) return PH_NEXT(call, nvmlDeviceGetGraphicsRunningProcesses)(device, count, infos);
    return offer(0, count, infos);
}
