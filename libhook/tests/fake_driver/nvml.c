/* libnvidia-ml.so.1 of the fake machine: enough for the hook, HAMi's programs and nvidia-smi's questions. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fk_unsupported(const char *symbol) {
    (void)symbol;
    return NVML_ERROR_NOT_SUPPORTED;
}
int fk_enter(const struct fk_call *call) {
    const char *fail = getenv("FAKE_NVML_FAIL"); /* symbol:error, every call */
    size_t length = strlen(call->symbol);
    return fail && strncmp(fail, call->symbol, length) == 0 && fail[length] == ':' ? atoi(fail + length + 1) : 0;
}

static int index_of(nvmlDevice_t device) { return (int)(intptr_t)device - 1; }
static nvmlDevice_t handle_of(int index) { return (nvmlDevice_t)(intptr_t)(index + 1); }
static bool exists(nvmlDevice_t device) { return index_of(device) >= 0 && index_of(device) < fg_settings()->device_count; }

const char *nvmlErrorString(nvmlReturn_t result);
const char *nvmlErrorString(nvmlReturn_t result) { return result == NVML_SUCCESS ? "Success" : "Error of the fake driver"; }

nvmlReturn_t fk_nvmlInit_v2(const struct fk_call *call) {
    (void)call;
    fg_ready();
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlInitWithFlags(const struct fk_call *call, unsigned int flags) {
    (void)flags;
    return fk_nvmlInit_v2(call);
}
nvmlReturn_t fk_nvmlShutdown(const struct fk_call *call) {
    (void)call;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlSystemGetDriverVersion(const struct fk_call *call, char *version, unsigned int length) {
    (void)call;
    snprintf(version, length, "999.0");
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlSystemGetNVMLVersion(const struct fk_call *call, char *version, unsigned int length) {
    (void)call;
    snprintf(version, length, "13.999.0");
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlSystemGetCudaDriverVersion_v2(const struct fk_call *call, int *version) {
    (void)call;
    *version = fg_settings()->cuda_version;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetCount_v2(const struct fk_call *call, unsigned int *count) {
    (void)call;
    fg_ready();
    *count = (unsigned int)fg_settings()->device_count;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetHandleByIndex_v2(const struct fk_call *call, unsigned int index, nvmlDevice_t *device) {
    (void)call;
    fg_ready();
    if ((int)index >= fg_settings()->device_count) return NVML_ERROR_INVALID_ARGUMENT;
    *device = handle_of((int)index);
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetIndex(const struct fk_call *call, nvmlDevice_t device, unsigned int *index) {
    (void)call;
    *index = (unsigned int)index_of(device);
    return exists(device) ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}
/* The first ABI of these, which old programs still ask for. */
nvmlReturn_t fk_nvmlInit(const struct fk_call *call) { return fk_nvmlInit_v2(call); }
nvmlReturn_t fk_nvmlDeviceGetCount(const struct fk_call *call, unsigned int *count) { return fk_nvmlDeviceGetCount_v2(call, count); }
nvmlReturn_t fk_nvmlDeviceGetHandleByIndex(const struct fk_call *call, unsigned int index, nvmlDevice_t *device) {
    return fk_nvmlDeviceGetHandleByIndex_v2(call, index, device);
}
static void uuid_text(int index, char *text, unsigned int length) {
    snprintf(text, length, "GPU-fa4ecafe-0000-0000-0000-0000000000%02x", (unsigned int)index);
}
nvmlReturn_t fk_nvmlDeviceGetUUID(const struct fk_call *call, nvmlDevice_t device, char *uuid, unsigned int length) {
    (void)call;
    if (!exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    uuid_text(index_of(device), uuid, length);
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetHandleByUUID(const struct fk_call *call, const char *uuid, nvmlDevice_t *device) {
    (void)call;
    fg_ready();
    for (int i = 0; i < fg_settings()->device_count; i++) {
        char text[64];
        uuid_text(i, text, sizeof text);
        if (strcmp(text, uuid) != 0) continue;
        *device = handle_of(i);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}
nvmlReturn_t fk_nvmlDeviceGetName(const struct fk_call *call, nvmlDevice_t device, char *name, unsigned int length) {
    (void)call, (void)device;
    snprintf(name, length, "poolmgr fake GPU");
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetPciInfo_v3(const struct fk_call *call, nvmlDevice_t device, nvmlPciInfo_t *pci) {
    (void)call;
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x10u + (unsigned int)index_of(device);
    pci->pciDeviceId = 0x233510de;
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus);
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetMemoryInfo(const struct fk_call *call, nvmlDevice_t device, nvmlMemory_t *memory) {
    (void)call;
    if (!exists(device) || !memory) return NVML_ERROR_INVALID_ARGUMENT;
    memory->total = fg_settings()->memory_bytes;
    memory->used = fg_memory_used(index_of(device));
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetMemoryInfo_v2(const struct fk_call *call, nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlMemory_t plain;
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = fk_nvmlDeviceGetMemoryInfo(call, device, &plain);
    memory->total = plain.total;
    memory->used = plain.used;
    memory->free = plain.free;
    memory->reserved = 0;
    return result;
}
nvmlReturn_t fk_nvmlDeviceGetUtilizationRates(const struct fk_call *call, nvmlDevice_t device, nvmlUtilization_t *utilization) {
    (void)call;
    static int64_t last_busy[FG_DEVICES], last_time[FG_DEVICES];
    int index = index_of(device);
    int64_t busy = fg_device_busy(index), now = fg_now();
    utilization->gpu = now > last_time[index] ? (unsigned int)((busy - last_busy[index]) * 100 / (now - last_time[index])) : 0;
    if (utilization->gpu > 100) utilization->gpu = 100;
    utilization->memory = 0;
    last_busy[index] = busy;
    last_time[index] = now;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetCudaComputeCapability(const struct fk_call *call, nvmlDevice_t device, int *major, int *minor) {
    (void)call, (void)device;
    *major = 9;
    *minor = 0;
    return NVML_SUCCESS;
}
