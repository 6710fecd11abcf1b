/* Who uses a GPU, as NVML tells it. A process that only draws is not in the list of those that compute; one under MPS is
 * in both, as its own ABI tells it. Where MIG is on, a MIG device's handle gives its own processes, the GPU's all. */
#include "nvml_view.h"

#include <string.h>
#include <time.h>

static struct nv_process found[NV_PROCESSES]; /* the library's lock is held */

/* NVML's protocol: too small a buffer, or none, gets the wanted count back with INSUFFICIENT_SIZE. */
static nvmlReturn_t offer(int count, unsigned int *room, const void *buffer) {
    unsigned int had = buffer ? *room : 0;
    *room = (unsigned int)count;
    return (unsigned int)count > had ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t look(const struct fk_call *call, nvmlDevice_t device, unsigned int kinds, int *count) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = nv_gpu_or_mig_of(call, device, &gpu, &mig);
    if (result != NVML_SUCCESS) return result;
    int all = nv_source->processes(nv_index_of(gpu), found);
    *count = 0;
    for (int i = 0; i < all; i++)
        if ((found[i].kinds & kinds) && (!mig || (found[i].gi == mig->gi && found[i].ci == mig->ci))) found[(*count)++] = found[i];
    return NVML_SUCCESS;
}

static nvmlReturn_t list_v1(const struct fk_call *call, nvmlDevice_t device, unsigned int kinds, unsigned int *room, nvmlProcessInfo_v1_t *infos) {
    int count;
    nvmlReturn_t result = room ? look(call, device, kinds, &count) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) result = offer(count, room, infos);
    for (int i = 0; result == NVML_SUCCESS && i < count; i++)
        infos[i] = (nvmlProcessInfo_v1_t){ .pid = found[i].pid, .usedGpuMemory = found[i].bytes };
    return result;
}

static nvmlReturn_t list(const struct fk_call *call, nvmlDevice_t device, unsigned int kinds, unsigned int *room, nvmlProcessInfo_v2_t *infos) {
    int count;
    nvmlReturn_t result = room ? look(call, device, kinds, &count) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) result = offer(count, room, infos);
    for (int i = 0; result == NVML_SUCCESS && i < count; i++)
        infos[i] = (nvmlProcessInfo_v2_t){ .pid = found[i].pid, .usedGpuMemory = found[i].bytes, .gpuInstanceId = found[i].gi,
                                           .computeInstanceId = found[i].ci };
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetComputeRunningProcesses(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v1_t *infos) {
    return list_v1(call, device, NV_COMPUTE, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetComputeRunningProcesses_v2(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v2_t *infos) {
    return list(call, device, NV_COMPUTE, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetComputeRunningProcesses_v3(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_t *infos) {
    return list(call, device, NV_COMPUTE, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetGraphicsRunningProcesses(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v1_t *infos) {
    return list_v1(call, device, NV_GRAPHICS, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetGraphicsRunningProcesses_v2(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v2_t *infos) {
    return list(call, device, NV_GRAPHICS, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetGraphicsRunningProcesses_v3(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_t *infos) {
    return list(call, device, NV_GRAPHICS, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetMPSComputeRunningProcesses(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v1_t *infos) {
    return list_v1(call, device, NV_MPS, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetMPSComputeRunningProcesses_v2(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v2_t *infos) {
    return list(call, device, NV_MPS, infoCount, infos);
}
nvmlReturn_t fk_nvmlDeviceGetMPSComputeRunningProcesses_v3(const struct fk_call *call, nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_t *infos) {
    return list(call, device, NV_MPS, infoCount, infos);
}

nvmlReturn_t fk_nvmlDeviceGetRunningProcessDetailList(const struct fk_call *call, nvmlDevice_t device, nvmlProcessDetailList_t *plist) {
    static const unsigned int kinds[NVML_PROCESS_MODE_MAX] = {
        [NVML_PROCESS_MODE_COMPUTE] = NV_COMPUTE, [NVML_PROCESS_MODE_GRAPHICS] = NV_GRAPHICS, [NVML_PROCESS_MODE_MPS] = NV_MPS,
        [NVML_PROCESS_MODE_ALL] = NV_COMPUTE | NV_GRAPHICS | NV_MPS,
    };
    int count;
    if (!plist || plist->mode >= NVML_PROCESS_MODE_MAX) return NVML_ERROR_INVALID_ARGUMENT;
    if (plist->version != nvmlProcessDetailList_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = look(call, device, kinds[plist->mode], &count);
    if (result == NVML_SUCCESS) result = offer(count, &plist->numProcArrayEntries, plist->procArray);
    for (int i = 0; result == NVML_SUCCESS && i < count; i++)
        plist->procArray[i] = (nvmlProcessDetail_v1_t){ .pid = found[i].pid, .usedGpuMemory = found[i].bytes, .gpuInstanceId = found[i].gi,
                                                        .computeInstanceId = found[i].ci };
    return result;
}

/* Samples are stamped with the time they are asked for: what a program has seen is older than that. */
nvmlReturn_t fk_nvmlDeviceGetProcessUtilization(const struct fk_call *call, nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                                unsigned int *processSamplesCount, unsigned long long lastSeenTimeStamp) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = processSamplesCount ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    if (gpu->mig) return NVML_ERROR_NOT_SUPPORTED;
    unsigned long long now = (unsigned long long)time(NULL) * 1000000;
    int all = nv_source->samples(nv_index_of(gpu), found), busy = 0;
    for (int i = 0; i < all; i++)
        if (found[i].sm || found[i].memory) found[busy++] = found[i];
    if (busy == 0 || lastSeenTimeStamp > now) return NVML_ERROR_NOT_FOUND;
    result = offer(busy, processSamplesCount, utilization);
    for (int i = 0; result == NVML_SUCCESS && i < busy; i++)
        utilization[i] = (nvmlProcessUtilizationSample_t){ .pid = found[i].pid, .timeStamp = now, .smUtil = found[i].sm, .memUtil = found[i].memory };
    return result;
}
