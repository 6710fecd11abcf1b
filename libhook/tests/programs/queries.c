/* Asks CUDA and NVML in every way, with NULL where programs leave things out and with buffers too small, while it
 * holds BYTES: prints "query answer-code [numbers]".   queries BYTES */
#include "program.h"

#include <nvml.h>

#define ASK(name, call) printf("%s %d\n", name, (int)(call))

static nvmlDevice_t gpu;

static void processes(const char *name, nvmlReturn_t (*ask)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_v2_t *)) {
    nvmlProcessInfo_v2_t infos[8];
    unsigned int none = 0, five = 5, eight = 8;
    memset(infos, 0xee, sizeof infos);
    printf("%s.null %d\n", name, (int)ask(gpu, NULL, infos));
    int code = (int)ask(gpu, &none, NULL);
    printf("%s.count %d %u\n", name, code, none);
    code = (int)ask(gpu, &five, NULL);
    printf("%s.no_buffer %d %u\n", name, code, five);
    none = 0;
    code = (int)ask(gpu, &none, infos);
    printf("%s.no_room %d %u %s\n", name, code, none, infos[0].pid == 0xeeeeeeee ? "untouched" : "written");
    code = (int)ask(gpu, &eight, infos);
    printf("%s.list %d %u", name, code, eight);
    for (unsigned int i = 0; code == 0 && i < eight; i++) printf(" %u:%llu", infos[i].pid, infos[i].usedGpuMemory >> 20);
    putchar('\n');
}

static void details(const char *name, unsigned int version, unsigned int mode, unsigned int room) {
    nvmlProcessDetail_v1_t found[8];
    nvmlProcessDetailList_t list = { .version = version, .mode = mode, .numProcArrayEntries = room, .procArray = room ? found : NULL };
    int code = (int)nvmlDeviceGetRunningProcessDetailList(gpu, &list);
    printf("details.%s %d", name, code);
    if (code == 0 || code == NVML_ERROR_INSUFFICIENT_SIZE) printf(" %u", list.numProcArrayEntries);
    for (unsigned int i = 0; code == 0 && i < list.numProcArrayEntries; i++)
        printf(" %u:%llu", found[i].pid, found[i].usedGpuMemory >> 20);
    putchar('\n');
}

int main(int argc, char **argv) {
    CUcontext context;
    CUdeviceptr address;
    size_t bytes = 0;
    nvmlMemory_t memory;
    if (argc != 2) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a query that crashes is the one after the last answer */
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuMemAlloc_v2(&address, strtoull(argv[1], NULL, 0)));
    printf("pid 0 %d\n", (int)getpid());

    ASK("cuMemGetInfo.both", cuMemGetInfo_v2(NULL, NULL));
    ASK("cuMemGetInfo.free", cuMemGetInfo_v2(NULL, &bytes));
    ASK("cuMemGetInfo.total", cuMemGetInfo_v2(&bytes, NULL));
    ASK("cuDeviceTotalMem", cuDeviceTotalMem_v2(NULL, 0));
    ASK("cuDeviceTotalMem.device", cuDeviceTotalMem_v2(&bytes, 99));
    ASK("cuMemAlloc", cuMemAlloc_v2(NULL, 512));
    ASK("cuMemAlloc.nothing", cuMemAlloc_v2(&address, 0));
    ASK("cuArrayCreate", cuArrayCreate_v2(NULL, NULL));
    ASK("cuMemCreate", cuMemCreate(NULL, 2 << 20, NULL, 0));
    ASK("cuMemAllocAsync", cuMemAllocAsync(NULL, 512, NULL));
    ASK("cuGetProcAddress", cuGetProcAddress_v2(NULL, NULL, 12000, 0, NULL));
    ASK("cuCtxCreate", cuCtxCreate_v2(NULL, 0, 0));
    ASK("cuImportExternalMemory", cuImportExternalMemory(NULL, NULL));

    if (nvmlInit_v2() != NVML_SUCCESS || nvmlDeviceGetHandleByIndex_v2(0, &gpu) != NVML_SUCCESS) return 3;
    ASK("memory", nvmlDeviceGetMemoryInfo(gpu, NULL));
    ASK("memory.device", nvmlDeviceGetMemoryInfo(NULL, &memory));
    ASK("memory_v2", nvmlDeviceGetMemoryInfo_v2(gpu, NULL));
    processes("compute", nvmlDeviceGetComputeRunningProcesses_v3);
    processes("compute_v2", nvmlDeviceGetComputeRunningProcesses_v2);
    ASK("details", nvmlDeviceGetRunningProcessDetailList(gpu, NULL));
    details("compute", nvmlProcessDetailList_v1, NVML_PROCESS_MODE_COMPUTE, 8);
    details("all", nvmlProcessDetailList_v1, NVML_PROCESS_MODE_ALL, 8);
    details("graphics", nvmlProcessDetailList_v1, NVML_PROCESS_MODE_GRAPHICS, 8);
    details("no_room", nvmlProcessDetailList_v1, NVML_PROCESS_MODE_ALL, 0);
    details("mode", nvmlProcessDetailList_v1, NVML_PROCESS_MODE_MAX, 8);
    details("version", nvmlProcessDetailList_v1 + 1, NVML_PROCESS_MODE_ALL, 8);
    return 0;
}
