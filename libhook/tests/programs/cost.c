/* What a call costs. Linked to no driver and found by dlopen, so that it runs under any libvgpu.so.
 *   cost --calls N --allocations N
 * Prints one line of JSON: <kind>_ns for each kind below, launch_p99_ns, init_us, and where the machine counts
 * instructions (perf_event_open) <kind>_instructions, in user space. Times are the least of some runs. */
#include "program.h"

#include <dlfcn.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { STREAMS = 128, ROUNDS = 64, RUNS = 5 };

static CUresult (*p_cuLaunchKernel)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **);
static CUresult (*p_cuGraphLaunch)(CUgraphExec, CUstream);
static CUresult (*p_cuMemAlloc)(CUdeviceptr *, size_t);
static CUresult (*p_cuMemFree)(CUdeviceptr);
static CUresult (*p_cuMemAllocAsync)(CUdeviceptr *, size_t, CUstream);
static CUresult (*p_cuMemFreeAsync)(CUdeviceptr, CUstream);
static CUresult (*p_cuCtxSynchronize)(void);
static CUfunction spin;
static CUgraphExec graph;
static CUstream streams[STREAMS];

static void launch_on(CUstream stream) {
    int64_t zero = 0;
    void *parameters[] = { &zero };
    p_cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL);
}
static void launch(int i) { (void)i, launch_on(NULL); }
static void launch_16(int i) { launch_on(streams[i % 16]); }
static void launch_128(int i) { launch_on(streams[i % STREAMS]); }
static void launch_graph(int i) { (void)i, p_cuGraphLaunch(graph, streams[0]); }
static void alloc_free(int i) {
    CUdeviceptr a;
    (void)i;
    CHECK(p_cuMemAlloc(&a, 1 << 20));
    CHECK(p_cuMemFree(a));
}
static void alloc_free_async(int i) {
    CUdeviceptr a;
    (void)i;
    CHECK(p_cuMemAllocAsync(&a, 1 << 20, streams[0]));
    CHECK(p_cuMemFreeAsync(a, streams[0]));
}

static int open_counter(void) { /* -1: no such counter here */
    struct perf_event_attr attributes = { .type = PERF_TYPE_HARDWARE, .size = sizeof attributes, .config = PERF_COUNT_HW_INSTRUCTIONS,
                                          .exclude_kernel = 1, .exclude_hv = 1 };
    return (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}

static uint64_t counted(int counter) {
    uint64_t value = 0;
    return counter >= 0 && read(counter, &value, sizeof value) == sizeof value ? value : 0;
}

static void measure(const char *name, void (*call)(int), int calls, int counter) {
    double ns = 1e18, instructions = 1e18;
    for (int i = 0; i < STREAMS * 2; i++) call(i);
    CHECK(p_cuCtxSynchronize());
    for (int run = 0; run < RUNS; run++) {
        uint64_t before = counted(counter);
        int64_t from = now_ns();
        for (int i = 0; i < calls / RUNS; i++) call(i);
        double took = (double)(now_ns() - from) / (calls / RUNS), executed = (double)(counted(counter) - before) / (calls / RUNS);
        if (took < ns) ns = took;
        if (executed < instructions) instructions = executed;
        CHECK(p_cuCtxSynchronize());
    }
    printf(", \"%s_ns\": %.1f", name, ns);
    if (counter >= 0) printf(", \"%s_instructions\": %.0f", name, instructions);
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t p99(int calls) {
    int count = 0;
    int64_t *samples = malloc(sizeof *samples * (size_t)(calls / ROUNDS + 1));
    for (int i = 0; i + ROUNDS <= calls; i += ROUNDS) {
        int64_t from = now_ns();
        for (int j = 0; j < ROUNDS; j++) launch(j);
        samples[count++] = (now_ns() - from) / ROUNDS;
        if (count % 16 == 0) CHECK(p_cuCtxSynchronize());
    }
    qsort(samples, (size_t)count, sizeof *samples, by_size);
    return samples[count * 99 / 100];
}

#define FIND(name) __typeof__(&name) p_##name = (__typeof__(&name))dlsym(driver, #name)
#define KEEP(pointer, name) pointer = (__typeof__(pointer))dlsym(driver, name)

int main(int argc, char **argv) {
    int calls = (int)number(argc, argv, "--calls", 200000), allocations = (int)number(argc, argv, "--allocations", 20000);
    int64_t before = now_ns();
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) return 2;
    FIND(cuInit);
    FIND(cuDevicePrimaryCtxRetain);
    FIND(cuCtxSetCurrent);
    FIND(cuModuleLoadData);
    FIND(cuModuleGetFunction);
    FIND(cuStreamCreate);
    FIND(cuStreamBeginCapture_v2);
    FIND(cuStreamEndCapture);
    FIND(cuGraphInstantiateWithFlags);
    KEEP(p_cuLaunchKernel, "cuLaunchKernel");
    KEEP(p_cuGraphLaunch, "cuGraphLaunch");
    KEEP(p_cuMemAlloc, "cuMemAlloc_v2");
    KEEP(p_cuMemFree, "cuMemFree_v2");
    KEEP(p_cuMemAllocAsync, "cuMemAllocAsync");
    KEEP(p_cuMemFreeAsync, "cuMemFreeAsync");
    KEEP(p_cuCtxSynchronize, "cuCtxSynchronize");
    CUcontext context;
    CUmodule module;
    CUgraph captured;
    CHECK(p_cuInit(0));
    CHECK(p_cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(p_cuCtxSetCurrent(context));
    printf("{\"init_us\": %lld", (long long)(now_ns() - before) / 1000);
    CHECK(p_cuModuleLoadData(&module, SPIN_PTX));
    CHECK(p_cuModuleGetFunction(&spin, module, "spin"));
    for (int i = 0; i < STREAMS; i++) CHECK(p_cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
    CHECK(p_cuStreamBeginCapture_v2(streams[0], CU_STREAM_CAPTURE_MODE_RELAXED));
    for (int i = 0; i < 10; i++) launch_16(0);
    CHECK(p_cuStreamEndCapture(streams[0], &captured));
    CHECK(p_cuGraphInstantiateWithFlags(&graph, captured, 0));
    int counter = open_counter();
    measure("launch", launch, calls, counter);
    printf(", \"launch_p99_ns\": %lld", (long long)p99(calls));
    measure("launch_16", launch_16, calls, counter);
    measure("launch_128", launch_128, calls, counter);
    measure("graph", launch_graph, calls / 4, counter);
    measure("alloc_free", alloc_free, allocations, counter);
    measure("alloc_free_async", alloc_free_async, allocations, counter);
    printf("}\n");
    return 0;
}
