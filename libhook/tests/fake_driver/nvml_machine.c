/* libhook's fake machine as NVML shows it: the GPUs that the fake CUDA driver has, and who works on them. */
#include "nvml_view.h"

#include "gpu.h"

#include <stdio.h>
#include <string.h>

static struct fg_use use[FG_PROCESSES]; /* the library's lock is held */

static nvmlReturn_t refresh(void) {
    static bool done; /* the machine never changes while a program runs */
    fg_ready();
    if (done) return NVML_SUCCESS;
    done = true;
    const struct fg_settings *machine = fg_settings();
    nv_view = (struct nv_view){ .driver_version = "999.0", .nvml_version = "13.999.0", .cuda_version = machine->cuda_version,
                                .gpu_count = machine->device_count };
    for (int i = 0; i < nv_view.gpu_count; i++) {
        struct nv_gpu *gpu = &nv_view.gpu[i];
        *gpu = (struct nv_gpu){ .address = { 0, 0x10u + (unsigned int)i, 0 }, .model = "poolmgr fake GPU", .minor = (unsigned int)i,
                                .pci_device_id = 0x233510de, .capability_major = 9, .bytes = machine->memory_bytes };
        snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-fa4ecafe-0000-0000-0000-0000000000%02x", (unsigned int)i);
    }
    return NVML_SUCCESS;
}

static int processes(int gpu, struct nv_process *found) {
    int count = fg_processes(gpu, use);
    for (int i = 0; i < count; i++)
        found[i] = (struct nv_process){ .gpu = gpu, .kinds = NV_COMPUTE, .pid = (unsigned int)(use[i].pid + fg_settings()->pid_offset),
                                        .gi = NV_NO_INSTANCE, .ci = NV_NO_INSTANCE, .bytes = use[i].bytes };
    return count;
}

static unsigned long long used(int gpu) { return fg_memory_used(gpu); }

static unsigned int percent(int gpu) {
    static int64_t last_busy[FG_DEVICES], last_time[FG_DEVICES];
    int64_t busy = fg_device_busy(gpu), now = fg_now();
    int64_t share = now > last_time[gpu] ? (busy - last_busy[gpu]) * 100 / (now - last_time[gpu]) : 0;
    last_busy[gpu] = busy;
    last_time[gpu] = now;
    return share > 100 ? 100 : (unsigned int)share;
}

/* A sample spans a sixth of a second, as real drivers' do, and one driver keeps the last. Older questions get it too:
 * NVML's time stamps are wall-clock time, which does not pass with the machine's. */
enum { SAMPLE_NS = 166666667 };
static struct {
    int64_t taken;
    int count;
    struct fg_use use[FG_PROCESSES];
    unsigned int percent[FG_PROCESSES];
} last[FG_DEVICES];

static int64_t before(int gpu, int pid) {
    for (int i = 0; i < last[gpu].count; i++)
        if (last[gpu].use[i].pid == pid) return last[gpu].use[i].busy_ns;
    return 0;
}

static void take_sample(int gpu) {
    int64_t now = fg_now(), passed = now - last[gpu].taken;
    static unsigned int share[FG_PROCESSES];
    if (last[gpu].taken && passed < SAMPLE_NS) return;
    int count = fg_processes(gpu, use);
    for (int i = 0; i < count; i++)
        share[i] = last[gpu].taken ? (unsigned int)((use[i].busy_ns - before(gpu, use[i].pid)) * 100 / passed) : 0;
    memcpy(last[gpu].use, use, sizeof use);
    memcpy(last[gpu].percent, share, sizeof share);
    last[gpu].count = count;
    last[gpu].taken = now;
}

static int samples(int gpu, struct nv_process *found) {
    take_sample(gpu);
    for (int i = 0; i < last[gpu].count; i++)
        found[i] = (struct nv_process){ .gpu = gpu, .pid = (unsigned int)(last[gpu].use[i].pid + fg_settings()->pid_offset),
                                        .sm = last[gpu].percent[i] > 100 ? 100 : last[gpu].percent[i] };
    return last[gpu].count;
}

const struct nv_source nv_machine = { refresh, processes, samples, used, percent };
