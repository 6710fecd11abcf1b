/* MIG: the GPU's mode and the devices that it is divided into. Making and destroying instances is left to the state file. */
#include "nvml_view.h"

#include <stdio.h>
#include <string.h>

enum { MOST_MIG_DEVICES = 7 }; /* of every GPU that has MIG so far */

nvmlReturn_t fk_nvmlDeviceGetMigMode(const struct fk_call *call, nvmlDevice_t device, unsigned int *currentMode, unsigned int *pendingMode) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = currentMode && pendingMode ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    if (!gpu->can_mig) return NVML_ERROR_NOT_SUPPORTED;
    *currentMode = gpu->mig ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    *pendingMode = gpu->mig_pending ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
}

nvmlReturn_t fk_nvmlDeviceIsMigDeviceHandle(const struct fk_call *call, nvmlDevice_t device, unsigned int *isMigDevice) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = isMigDevice ? nv_gpu_or_mig_of(call, device, &gpu, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *isMigDevice = mig != NULL;
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetMaxMigDeviceCount(const struct fk_call *call, nvmlDevice_t device, unsigned int *count) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = count ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *count = gpu->mig ? MOST_MIG_DEVICES : 0;
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetMigDeviceHandleByIndex(const struct fk_call *call, nvmlDevice_t device, unsigned int index, nvmlDevice_t *migDevice) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = migDevice && index < MOST_MIG_DEVICES ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    if (!gpu->can_mig) return NVML_ERROR_NOT_SUPPORTED;
    for (int i = 0; gpu->mig && i < nv_view.mig_count; i++) {
        if (nv_view.mig[i].gpu != nv_index_of(gpu) || index-- > 0) continue;
        *migDevice = nv_handle_of_mig(&nv_view.mig[i]);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t fk_nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const struct fk_call *call, nvmlDevice_t migDevice, nvmlDevice_t *device) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = device ? nv_gpu_or_mig_of(call, migDevice, &gpu, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && !mig) result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *device = nv_handle_of(gpu);
    return result;
}

static nvmlReturn_t instance(const struct fk_call *call, nvmlDevice_t device, const struct nv_mig **mig) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = nv_gpu_or_mig_of(call, device, &gpu, mig);
    return result == NVML_SUCCESS && !*mig ? NVML_ERROR_INVALID_ARGUMENT : result;
}

nvmlReturn_t fk_nvmlDeviceGetGpuInstanceId(const struct fk_call *call, nvmlDevice_t device, unsigned int *id) {
    const struct nv_mig *mig;
    nvmlReturn_t result = id ? instance(call, device, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *id = mig->gi;
    return result;
}
nvmlReturn_t fk_nvmlDeviceGetComputeInstanceId(const struct fk_call *call, nvmlDevice_t device, unsigned int *id) {
    const struct nv_mig *mig;
    nvmlReturn_t result = id ? instance(call, device, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *id = mig->ci;
    return result;
}

/* The slices are in a profile's name: 3g.20gb, or 1c.3g.20gb where the GPU instance is divided further. What the state
 * file does not tell (engines, multiprocessors) stays 0. */
nvmlReturn_t fk_nvmlDeviceGetAttributes_v2(const struct fk_call *call, nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    const struct nv_mig *mig;
    unsigned int compute = 0, gpu = 0;
    nvmlReturn_t result = attributes ? instance(call, device, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    if (sscanf(mig->profile, "%uc.%ug.", &compute, &gpu) != 2 && sscanf(mig->profile, "%ug.", &gpu) == 1) compute = gpu;
    *attributes = (nvmlDeviceAttributes_t){ .gpuInstanceSliceCount = gpu, .computeInstanceSliceCount = compute, .memorySizeMB = mig->bytes >> 20 };
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetAttributes(const struct fk_call *call, nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    return fk_nvmlDeviceGetAttributes_v2(call, device, attributes);
}
