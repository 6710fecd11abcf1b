/* What programs set: persistence mode and drain state. They are the driver's and outlive the program, so they are
 * written beside the state file, STATE.set, a line for each: `0000:00:10.0 persistence off`. The last one holds; whoever
 * wants the GPUs untouched removes the file. Without a state file nothing can be set. */
#include "nvml_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool settings_path(char path[512]) {
    const char *state = getenv("FAKE_NVML_STATE");
    return state && snprintf(path, 512, "%s.set", state) < 512;
}

static bool read_setting(const struct nv_address *address, const char *name, bool otherwise) {
    char path[512], line[256];
    FILE *file = settings_path(path) ? fopen(path, "re") : NULL;
    while (file && fgets(line, sizeof line, file)) {
        struct nv_address at;
        char what[32], value[8];
        if (sscanf(line, "%x:%x:%x.0 %31s %7s", &at.domain, &at.bus, &at.device, what, value) != 5) continue;
        if (nv_same_address(&at, address) && strcmp(what, name) == 0) otherwise = strcmp(value, "on") == 0;
    }
    if (file) fclose(file);
    return otherwise;
}

bool nv_is_persistent(const struct nv_gpu *gpu) { return read_setting(&gpu->address, "persistence", gpu->persistent); }
bool nv_is_draining(const struct nv_gpu *gpu) { return read_setting(&gpu->address, "drain", false); }

static nvmlReturn_t set(const struct nv_address *address, const char *name, nvmlEnableState_t state) {
    char path[512], line[128];
    if (state != NVML_FEATURE_ENABLED && state != NVML_FEATURE_DISABLED) return NVML_ERROR_INVALID_ARGUMENT;
    if (!settings_path(path)) return NVML_ERROR_NOT_SUPPORTED;
    if (geteuid() != 0) return NVML_ERROR_NO_PERMISSION;
    int length = snprintf(line, sizeof line, "%04x:%02x:%02x.0 %s %s\n", address->domain, address->bus, address->device, name,
                          state == NVML_FEATURE_ENABLED ? "on" : "off");
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return errno == EACCES || errno == EROFS ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_OPERATING_SYSTEM;
    ssize_t written = write(fd, line, (size_t)length);
    close(fd);
    return written == length ? NVML_SUCCESS : NVML_ERROR_OPERATING_SYSTEM;
}

nvmlReturn_t fk_nvmlDeviceGetPersistenceMode(const struct fk_call *call, nvmlDevice_t device, nvmlEnableState_t *mode) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = mode ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *mode = nv_is_persistent(gpu) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return result;
}
nvmlReturn_t fk_nvmlDeviceSetPersistenceMode(const struct fk_call *call, nvmlDevice_t device, nvmlEnableState_t mode) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = nv_gpu_of(call, device, &gpu);
    return result == NVML_SUCCESS ? set(&gpu->address, "persistence", mode) : result;
}

/* By bus numbers, not by handle: a draining GPU gives none to a program that begins. */
static nvmlReturn_t by_bus(const struct fk_call *call, const nvmlPciInfo_t *pci, const struct nv_gpu **gpu) {
    const struct nv_address address = { pci->domain, pci->bus, pci->device };
    for (int i = 0; i < nv_view.gpu_count; i++)
        if (nv_same_address(&nv_view.gpu[i].address, &address)) {
            *gpu = &nv_view.gpu[i];
            return nv_refused(call->symbol, i);
        }
    return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t fk_nvmlDeviceModifyDrainState(const struct fk_call *call, nvmlPciInfo_t *pciInfo, nvmlEnableState_t newState) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = pciInfo ? by_bus(call, pciInfo, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && newState == NVML_FEATURE_ENABLED && nv_is_persistent(gpu)) result = NVML_ERROR_IN_USE;
    return result == NVML_SUCCESS ? set(&gpu->address, "drain", newState) : result;
}
nvmlReturn_t fk_nvmlDeviceQueryDrainState(const struct fk_call *call, nvmlPciInfo_t *pciInfo, nvmlEnableState_t *currentState) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = pciInfo && currentState ? by_bus(call, pciInfo, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *currentState = nv_is_draining(gpu) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return result;
}
