/* Which GPU is which. Limits, the region and NVML count GPUs in PCI order; CUDA may count otherwise and may
 * see fewer (CUDA_VISIBLE_DEVICES), so CUDA devices are matched by UUID. */
#define _GNU_SOURCE
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ph_device_count;
char ph_device_uuids[PH_MAX_DEVICES][PH_UUID_SIZE];
static int ordinal_of[PH_MAX_DEVICES * 4]; /* by CUdevice, which is a small index */
static bool matched;

static void format_uuid(const CUuuid *uuid, char *text) {
    const unsigned char *b = (const unsigned char *)uuid->bytes;
    snprintf(text, PH_UUID_SIZE, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
             b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void find_by_nvml(void) {
    unsigned int count = 0;
    if (!ph_driver_nvml() || !ph_driver.nvmlDeviceGetCount_v2 || PH_ASK(nvmlDeviceGetCount_v2)(&count) != NVML_SUCCESS) return;
    if (count > PH_MAX_DEVICES) count = PH_MAX_DEVICES;
    for (unsigned int i = 0; i < count; i++) {
        nvmlDevice_t device;
        if (PH_ASK(nvmlDeviceGetHandleByIndex_v2)(i, &device) == NVML_SUCCESS)
            PH_ASK(nvmlDeviceGetUUID)(device, ph_device_uuids[i], PH_UUID_SIZE);
    }
    ph_device_count = (int)count;
}

struct visible {
    CUdevice device;
    char bus[32];
    char uuid[PH_UUID_SIZE];
};

static int by_bus(const void *a, const void *b) {
    return strcmp(((const struct visible *)a)->bus, ((const struct visible *)b)->bus);
}

static int find_by_cuda(struct visible *visible) {
    int count = 0;
    if (!ph_driver_cuda() || PH_ASK(cuDeviceGetCount)(&count) != CUDA_SUCCESS) count = 0;
    if (count > PH_MAX_DEVICES) count = PH_MAX_DEVICES;
    for (int i = 0; i < count; i++) {
        CUuuid uuid;
        memset(&visible[i], 0, sizeof visible[i]);
        PH_ASK(cuDeviceGet)(&visible[i].device, i);
        if (ph_driver.cuDeviceGetUuid && PH_ASK(cuDeviceGetUuid)(&uuid, visible[i].device) == CUDA_SUCCESS)
            format_uuid(&uuid, visible[i].uuid);
        if (ph_driver.cuDeviceGetPCIBusId) PH_ASK(cuDeviceGetPCIBusId)(visible[i].bus, sizeof visible[i].bus, visible[i].device);
    }
    return count;
}

static void match(const struct visible *visible, int count) {
    for (int i = 0; i < count; i++)
        for (int j = 0; j < ph_device_count; j++)
            if (strcmp(visible[i].uuid, ph_device_uuids[j]) == 0 && visible[i].device >= 0 &&
                visible[i].device < (int)(sizeof ordinal_of / sizeof *ordinal_of))
                ordinal_of[visible[i].device] = j;
    matched = count > 0;
}

/* NVML is slow to start: asked only where CUDA may not see every GPU, or none at all (a monitor program). */
static bool nvml_wanted(int count) {
    const char *chosen = getenv("CUDA_VISIBLE_DEVICES");
    return count == 0 || (chosen && *chosen);
}

void ph_devices_prepare(void) {
    int count = 0;
    if (!ph_driver_cuda() || PH_ASK(cuDeviceGetCount)(&count) != CUDA_SUCCESS) count = 0;
    if (nvml_wanted(count)) ph_driver_start_nvml();
}

void ph_devices_find(void) {
    struct visible visible[PH_MAX_DEVICES];
    int count = find_by_cuda(visible);
    if (nvml_wanted(count)) find_by_nvml();
    if (ph_device_count == 0) {
        qsort(visible, (size_t)count, sizeof *visible, by_bus);
        for (int i = 0; i < count; i++) strcpy(ph_device_uuids[i], visible[i].uuid);
        ph_device_count = count;
    }
    match(visible, count);
}

void ph_devices_adopt(const char (*uuids)[PH_UUID_SIZE], int count) {
    struct visible visible[PH_MAX_DEVICES];
    if (count <= 0 || count > PH_MAX_DEVICES) return;
    for (int i = 0; i < count; i++) snprintf(ph_device_uuids[i], PH_UUID_SIZE, "%.*s", PH_UUID_SIZE - 1, uuids[i]);
    ph_device_count = count;
    match(visible, find_by_cuda(visible));
}

void ph_devices_match(void) {
    struct visible visible[PH_MAX_DEVICES];
    if (!matched) match(visible, find_by_cuda(visible));
}

int ph_ordinal(CUdevice device) {
    if (device < 0 || device >= (int)(sizeof ordinal_of / sizeof *ordinal_of)) return 0;
    return ordinal_of[device];
}

int ph_current_ordinal(void) {
    CUdevice device = 0;
    if (ph_device_count <= 1 || !ph_driver.cuCtxGetDevice || PH_ASK(cuCtxGetDevice)(&device) != CUDA_SUCCESS) return 0;
    return ph_ordinal(device);
}

int ph_nvml_ordinal(nvmlDevice_t device) {
    char uuid[PH_UUID_SIZE];
    unsigned int index;
    if (ph_driver.nvmlDeviceGetUUID && PH_ASK(nvmlDeviceGetUUID)(device, uuid, sizeof uuid) == NVML_SUCCESS)
        for (int i = 0; i < ph_device_count; i++)
            if (strncmp(uuid, ph_device_uuids[i], sizeof uuid) == 0) return i;
    if (ph_device_count == 0 && ph_driver.nvmlDeviceGetIndex && PH_ASK(nvmlDeviceGetIndex)(device, &index) == NVML_SUCCESS)
        return index < PH_MAX_DEVICES ? (int)index : -1;
    return -1;
}
