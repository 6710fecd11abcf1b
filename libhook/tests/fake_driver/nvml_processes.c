/* Who uses a GPU, as NVML tells it: the process lists, and busy percentages in the driver's coarse samples. */
#include "fake.h"

#include <string.h>
#include <time.h>

static int index_of(nvmlDevice_t device) { return (int)(intptr_t)device - 1; }
static bool exists(nvmlDevice_t device) { return index_of(device) >= 0 && index_of(device) < fg_settings()->device_count; }

/* NVML's protocol: too small a buffer, or none, gets the wanted count back with INSUFFICIENT_SIZE. */
static nvmlReturn_t offer(int found, unsigned int *count, const void *buffer) {
    unsigned int room = buffer ? *count : 0;
    *count = (unsigned int)found;
    return (unsigned int)found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t fk_nvmlDeviceGetComputeRunningProcesses(const struct fk_call *call, nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_v1_t *infos) {
    (void)call;
    struct fg_use use[FG_PROCESSES];
    if (!count || !exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    int found = fg_processes(index_of(device), use);
    nvmlReturn_t result = offer(found, count, infos);
    for (int i = 0; result == NVML_SUCCESS && i < found; i++)
        infos[i] = (nvmlProcessInfo_v1_t){ .pid = (unsigned int)(use[i].pid + fg_settings()->pid_offset), .usedGpuMemory = use[i].bytes };
    return result;
}
nvmlReturn_t fk_nvmlDeviceGetComputeRunningProcesses_v2(const struct fk_call *call, nvmlDevice_t device, unsigned int *count,
                                                        nvmlProcessInfo_v2_t *infos) {
    (void)call;
    struct fg_use use[FG_PROCESSES];
    if (!count || !exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    int found = fg_processes(index_of(device), use);
    nvmlReturn_t result = offer(found, count, infos);
    for (int i = 0; result == NVML_SUCCESS && i < found; i++)
        infos[i] = (nvmlProcessInfo_v2_t){ .pid = (unsigned int)(use[i].pid + fg_settings()->pid_offset), .usedGpuMemory = use[i].bytes,
                                           .gpuInstanceId = 0xFFFFFFFFu, .computeInstanceId = 0xFFFFFFFFu };
    return result;
}
nvmlReturn_t fk_nvmlDeviceGetComputeRunningProcesses_v3(const struct fk_call *call, nvmlDevice_t device, unsigned int *count,
                                                        nvmlProcessInfo_v2_t *infos) {
    return fk_nvmlDeviceGetComputeRunningProcesses_v2(call, device, count, infos);
}

nvmlReturn_t fk_nvmlDeviceGetRunningProcessDetailList(const struct fk_call *call, nvmlDevice_t device, nvmlProcessDetailList_t *plist) {
    (void)call;
    struct fg_use use[FG_PROCESSES];
    if (!plist || !exists(device) || plist->mode >= NVML_PROCESS_MODE_MAX) return NVML_ERROR_INVALID_ARGUMENT;
    if (plist->version != nvmlProcessDetailList_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    bool compute = plist->mode == NVML_PROCESS_MODE_COMPUTE || plist->mode == NVML_PROCESS_MODE_ALL;
    int found = compute ? fg_processes(index_of(device), use) : 0;
    nvmlReturn_t result = offer(found, &plist->numProcArrayEntries, plist->procArray);
    for (int i = 0; result == NVML_SUCCESS && i < found; i++)
        plist->procArray[i] = (nvmlProcessDetail_v1_t){ .pid = (unsigned int)(use[i].pid + fg_settings()->pid_offset),
                                                        .usedGpuMemory = use[i].bytes,
                                                        .gpuInstanceId = 0xFFFFFFFFu, .computeInstanceId = 0xFFFFFFFFu };
    return result;
}

/* A sample spans a sixth of a second, as real drivers' do, and one driver keeps the last. Older questions get it too:
 * NVML's time stamps are wall-clock time, which does not pass with the machine's. */
enum { SAMPLE_NS = 166666667 };
static struct {
    int64_t taken;
    int count;
    struct fg_use use[FG_PROCESSES];
    unsigned int percent[FG_PROCESSES];
} samples[FG_DEVICES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int64_t before(int device, int pid) {
    for (int i = 0; i < samples[device].count; i++)
        if (samples[device].use[i].pid == pid) return samples[device].use[i].busy_ns;
    return 0;
}

static void take_sample(int device) {
    int64_t now = fg_now(), passed = now - samples[device].taken;
    struct fg_use use[FG_PROCESSES];
    if (samples[device].taken && passed < SAMPLE_NS) return;
    int found = fg_processes(device, use);
    unsigned int percent[FG_PROCESSES];
    for (int i = 0; i < found; i++)
        percent[i] = samples[device].taken ? (unsigned int)((use[i].busy_ns - before(device, use[i].pid)) * 100 / passed) : 0;
    memcpy(samples[device].use, use, sizeof use);
    memcpy(samples[device].percent, percent, sizeof percent);
    samples[device].count = found;
    samples[device].taken = now;
}

nvmlReturn_t fk_nvmlDeviceGetProcessUtilization(const struct fk_call *call, nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                                unsigned int *count, unsigned long long since) {
    (void)call, (void)since;
    if (!count || !exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    fg_mutex_lock(&mutex);
    int index = index_of(device), busy = 0;
    take_sample(index);
    for (int i = 0; i < samples[index].count; i++) busy += samples[index].percent[i] > 0;
    nvmlReturn_t result = busy == 0 ? NVML_ERROR_NOT_FOUND : offer(busy, count, utilization);
    for (int i = 0, at = 0; result == NVML_SUCCESS && i < samples[index].count; i++) {
        if (samples[index].percent[i] == 0) continue;
        unsigned int percent = samples[index].percent[i] > 100 ? 100 : samples[index].percent[i];
        utilization[at++] = (nvmlProcessUtilizationSample_t){ .pid = (unsigned int)(samples[index].use[i].pid + fg_settings()->pid_offset),
                                                              .timeStamp = (unsigned long long)time(NULL) * 1000000, .smUtil = percent };
    }
    fg_mutex_unlock(&mutex);
    return result;
}
