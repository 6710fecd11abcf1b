/* What NVML tells of one GPU or MIG device. */
#include "nvml_view.h"

#include <stdio.h>
#include <string.h>

nvmlReturn_t fk_nvmlSystemGetDriverVersion(const struct fk_call *call, char *version, unsigned int length) {
    (void)call;
    return nv_text(version, length, nv_view.driver_version);
}
nvmlReturn_t fk_nvmlSystemGetNVMLVersion(const struct fk_call *call, char *version, unsigned int length) {
    (void)call;
    return nv_text(version, length, nv_view.nvml_version);
}
nvmlReturn_t fk_nvmlSystemGetCudaDriverVersion_v2(const struct fk_call *call, int *cudaDriverVersion) {
    (void)call;
    if (!cudaDriverVersion) return NVML_ERROR_INVALID_ARGUMENT;
    *cudaDriverVersion = nv_view.cuda_version;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlSystemGetCudaDriverVersion(const struct fk_call *call, int *cudaDriverVersion) {
    return fk_nvmlSystemGetCudaDriverVersion_v2(call, cudaDriverVersion);
}

static unsigned int index_in_gpu(const struct nv_mig *mig) {
    unsigned int index = 0;
    for (const struct nv_mig *other = nv_view.mig; other < mig; other++) index += other->gpu == mig->gpu;
    return index;
}

nvmlReturn_t fk_nvmlDeviceGetIndex(const struct fk_call *call, nvmlDevice_t device, unsigned int *index) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = index ? nv_gpu_or_mig_of(call, device, &gpu, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *index = mig ? index_in_gpu(mig) : (unsigned int)nv_session_index_of(gpu);
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetUUID(const struct fk_call *call, nvmlDevice_t device, char *uuid, unsigned int length) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = nv_gpu_or_mig_of(call, device, &gpu, &mig);
    return result == NVML_SUCCESS ? nv_text(uuid, length, mig ? mig->uuid : gpu->uuid) : result;
}

nvmlReturn_t fk_nvmlDeviceGetName(const struct fk_call *call, nvmlDevice_t device, char *name, unsigned int length) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = nv_gpu_or_mig_of(call, device, &gpu, &mig);
    if (result != NVML_SUCCESS) return result;
    char text[sizeof gpu->model + sizeof mig->profile + 8];
    snprintf(text, sizeof text, mig ? "%s MIG %s" : "%s", gpu->model, mig ? mig->profile : "");
    return nv_text(name, length, text);
}

nvmlReturn_t fk_nvmlDeviceGetMinorNumber(const struct fk_call *call, nvmlDevice_t device, unsigned int *minorNumber) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = minorNumber ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *minorNumber = gpu->minor;
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetSerial(const struct fk_call *call, nvmlDevice_t device, char *serial, unsigned int length) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = nv_gpu_of(call, device, &gpu);
    if (result != NVML_SUCCESS) return result;
    return gpu->serial[0] ? nv_text(serial, length, gpu->serial) : NVML_ERROR_NOT_SUPPORTED;
}

/* Always function 0: a GPU's other functions are not NVML's. */
nvmlReturn_t fk_nvmlDeviceGetPciInfo_v3(const struct fk_call *call, nvmlDevice_t device, nvmlPciInfo_t *pci) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = pci ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    const struct nv_address *at = &gpu->address;
    *pci = (nvmlPciInfo_t){ .domain = at->domain, .bus = at->bus, .device = at->device, .pciDeviceId = gpu->pci_device_id,
                            .pciSubSystemId = gpu->pci_subsystem_id };
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", at->domain, at->bus, at->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", at->domain & 0xFFFFu, at->bus & 0xFFu, at->device & 0xFFu);
    return NVML_SUCCESS;
}

/* Of a MIG device what its instance has; NVML's first ABI counts what the driver keeps for itself as used. */
static nvmlReturn_t memory_of(const struct fk_call *call, nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = nv_gpu_or_mig_of(call, device, &gpu, &mig);
    if (result != NVML_SUCCESS) return result;
    unsigned long long used = 0;
    if (mig) {
        static struct nv_process found[NV_PROCESSES];
        int count = nv_source->processes(nv_index_of(gpu), found);
        for (int i = 0; i < count; i++)
            if (found[i].gi == mig->gi && found[i].ci == mig->ci && found[i].bytes != NV_BYTES_UNKNOWN) used += found[i].bytes;
    } else {
        used = nv_source->used(nv_index_of(gpu));
    }
    memory->total = mig ? mig->bytes : gpu->bytes;
    memory->reserved = mig ? 0 : gpu->reserved;
    memory->used = used;
    memory->free = memory->total - memory->reserved > used ? memory->total - memory->reserved - used : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t fk_nvmlDeviceGetMemoryInfo(const struct fk_call *call, nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlMemory_v2_t found = { 0 };
    nvmlReturn_t result = memory ? memory_of(call, device, &found) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *memory = (nvmlMemory_t){ .total = found.total, .free = found.free, .used = found.used + found.reserved };
    return result;
}
nvmlReturn_t fk_nvmlDeviceGetMemoryInfo_v2(const struct fk_call *call, nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return memory_of(call, device, memory);
}

nvmlReturn_t fk_nvmlDeviceGetUtilizationRates(const struct fk_call *call, nvmlDevice_t device, nvmlUtilization_t *utilization) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = utilization ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    if (gpu->mig) return NVML_ERROR_NOT_SUPPORTED; /* "on MIG-enabled GPUs, querying device utilization rates is not currently supported" */
    *utilization = (nvmlUtilization_t){ .gpu = nv_source->percent(nv_index_of(gpu)), .memory = gpu->memory_percent };
    return NVML_SUCCESS;
}

nvmlReturn_t fk_nvmlDeviceGetCudaComputeCapability(const struct fk_call *call, nvmlDevice_t device, int *major, int *minor) {
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = major && minor ? nv_gpu_or_mig_of(call, device, &gpu, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) {
        *major = gpu->capability_major;
        *minor = gpu->capability_minor;
    }
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetArchitecture(const struct fk_call *call, nvmlDevice_t device, nvmlDeviceArchitecture_t *arch) {
    static const struct {
        int major, minor; /* the first capability of each */
        unsigned int arch;
    } known[] = { { 3, 0, NVML_DEVICE_ARCH_KEPLER }, { 5, 0, NVML_DEVICE_ARCH_MAXWELL }, { 6, 0, NVML_DEVICE_ARCH_PASCAL },
                  { 7, 0, NVML_DEVICE_ARCH_VOLTA }, { 7, 5, NVML_DEVICE_ARCH_TURING }, { 8, 0, NVML_DEVICE_ARCH_AMPERE },
                  { 8, 9, NVML_DEVICE_ARCH_ADA }, { 9, 0, NVML_DEVICE_ARCH_HOPPER }, { 10, 0, NVML_DEVICE_ARCH_BLACKWELL } };
    const struct nv_gpu *gpu;
    const struct nv_mig *mig;
    nvmlReturn_t result = arch ? nv_gpu_or_mig_of(call, device, &gpu, &mig) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS) return result;
    *arch = NVML_DEVICE_ARCH_UNKNOWN;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (gpu->capability_major * 10 + gpu->capability_minor >= known[i].major * 10 + known[i].minor) *arch = known[i].arch;
    return NVML_SUCCESS;
}

/* What a stranger's process on the node is called. */
nvmlReturn_t fk_nvmlSystemGetProcessName(const struct fk_call *call, unsigned int pid, char *name, unsigned int length) {
    (void)call;
    char path[40], text[256];
    if (!name || length == 0) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file) return NVML_ERROR_NOT_FOUND;
    size_t read = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[read] = 0;
    return nv_text(name, length, text);
}
