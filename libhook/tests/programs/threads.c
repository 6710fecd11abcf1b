/* Threads that use everything at once: own and common streams, graphs, copies, every kind of wait, memory, pools,
 * streams and contexts that come and go, questions to CUDA and NVML, look-ups.
 *   threads --threads N --rounds R     prints "done" when every call did what it should and nothing is left */
#include "program.h"

#include <dlfcn.h>
#include <nvml.h>
#include <pthread.h>

static CUcontext context;
static CUfunction kernel;
static CUstream common;
static int rounds;

static void launch(CUstream stream) { CHECK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL)); }

static void use_streams(void) {
    CUstream own;
    CUevent event;
    CHECK(cuStreamCreate(&own, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&event, 0));
    for (int i = 0; i < 20; i++) launch(i % 3 ? own : common);
    CHECK(cuEventRecord(event, own));
    CHECK(cuStreamWaitEvent(common, event, 0));
    launch(NULL);
    CHECK(cuEventSynchronize(event));
    cuStreamQuery(own);
    CHECK(cuStreamSynchronize(own));
    CHECK(cuEventDestroy_v2(event));
    CHECK(cuStreamDestroy_v2(own));
}

static void use_graph(void) {
    CUstream own;
    CUgraph graph;
    CUgraphExec exec;
    CHECK(cuStreamCreate(&own, CU_STREAM_NON_BLOCKING));
    CHECK(cuStreamBeginCapture_v2(own, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    launch(own);
    CHECK(cuStreamEndCapture(own, &graph));
    CHECK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int i = 0; i < 5; i++) CHECK(cuGraphLaunch(exec, own));
    CHECK(cuStreamSynchronize(own));
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(graph));
    CHECK(cuStreamDestroy_v2(own));
}

static void use_memory(void) {
    CUdeviceptr a, b;
    size_t free_bytes, total;
    char bytes[64];
    CHECK(cuMemAlloc_v2(&a, 1 << 20));
    CHECK(cuMemAllocAsync(&b, 1 << 20, common));
    CHECK(cuMemcpyDtoH_v2(bytes, a, sizeof bytes));
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    CHECK(cuMemFreeAsync(b, common));
    CHECK(cuMemFree_v2(a));
}

static void use_context(void) {
    CUcontext own;
    CUdeviceptr a;
    CHECK(cuCtxCreate_v2(&own, 0, 0));
    launch(NULL);
    CHECK(cuMemAlloc_v2(&a, 1 << 20)); /* goes with its context */
    CHECK(cuCtxDestroy_v2(own));
    CHECK(cuCtxSetCurrent(context));
}

static void ask(void) {
    nvmlDevice_t device;
    nvmlMemory_t memory;
    nvmlProcessInfo_v2_t processes[64];
    unsigned int count = 64;
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    __typeof__(&nvmlInit_v2) initialise = (__typeof__(initialise))dlsym(nvml, "nvmlInit_v2");
    __typeof__(&nvmlDeviceGetHandleByIndex_v2) by_index = (__typeof__(by_index))dlsym(nvml, "nvmlDeviceGetHandleByIndex_v2");
    __typeof__(&nvmlDeviceGetMemoryInfo) get = (__typeof__(get))dlsym(nvml, "nvmlDeviceGetMemoryInfo");
    nvmlReturn_t (*list)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_v2_t *) =
        (__typeof__(list))dlsym(nvml, "nvmlDeviceGetComputeRunningProcesses_v3");
    if (initialise() != NVML_SUCCESS || by_index(0, &device) != NVML_SUCCESS || get(device, &memory) != NVML_SUCCESS || list(device, &count, processes) != NVML_SUCCESS)
        exit(3);
    void *found = NULL;
    CHECK(cuGetProcAddress("cuMemAlloc", &found, 12000, 0));
}

static void *live(void *number) {
    static void (*const parts[])(void) = { use_streams, use_memory, use_graph, ask, use_context };
    CHECK(cuCtxSetCurrent(context));
    for (int i = 0; i < rounds; i++) parts[((size_t)number + (size_t)i) % (sizeof parts / sizeof *parts)]();
    CHECK(cuStreamSynchronize(common));
    return NULL;
}

static void *begin(void *unused) {
    (void)unused;
    ask(); /* some programs ask NVML before anybody has called cuInit */
    CHECK(cuInit(0));
    return NULL;
}

int main(int argc, char **argv) {
    int count = (int)number(argc, argv, "--threads", 8);
    pthread_t threads[64];
    CUmodule module;
    rounds = (int)number(argc, argv, "--rounds", 20);
    CHECK(cuInit(0));
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, begin, NULL);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    size_t free_bytes, total, before;
    CHECK(cuMemGetInfo_v2(&before, &total));
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&kernel, module, "spin_20000"));
    CHECK(cuStreamCreate(&common, CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, live, (void *)(uintptr_t)i);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    CHECK(cuCtxSynchronize());
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    if (free_bytes != before) return fprintf(stderr, "%zu bytes are left\n", before - free_bytes), 4;
    puts("done");
    return 0;
}
