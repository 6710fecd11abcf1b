/* What programs do to their memory that the account must follow: `reconcile CASE [ARGUMENT]`, on the fake machine. Each prints
 * "CASE granted MIB shown MIB used MIB": what it was given, what the container is shown as using, what the machine knows.
 *   exec N          600 MiB, then the same again after an exec of itself
 *   host N          N MiB from a pool of host memory
 *   hostgone N      the same, and the pool is destroyed
 *   destroyed N     four pools with N MiB each, destroyed while the memory is in use
 *   step N          N MiB from the device's pool
 *   graphs N        ten graphs of N MiB, launched one after another in one stream
 *   imported N      N MiB of another API's memory, and then the context is reset
 *   plain N [GPU]   N MiB, held until a line comes in where an argument follows */
#include "program.h"

static CUcontext context;
static CUstream stream;
static uint64_t mib;

static void report(const char *what, uint64_t granted) {
    size_t available, total;
    CHECK(cuMemGetInfo_v2(&available, &total));
    printf("%s granted %llu shown %zu used %llu\n", what, (unsigned long long)granted, (total - available) >> 20,
           (unsigned long long)(fg_memory_own(0) >> 20));
    fflush(stdout);
}

static void begin(int ordinal) {
    CUdevice device;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, ordinal));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
}

static uint64_t plain(void) {
    CUdeviceptr address;
    return cuMemAlloc_v2(&address, mib << 20) == CUDA_SUCCESS ? mib : 0;
}

static uint64_t from_pool(CUmemLocationType where, int times, bool destroy) {
    uint64_t granted = 0;
    for (int i = 0; i < times; i++) {
        CUmemoryPool pool;
        CUdeviceptr address;
        CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = where } };
        CHECK(cuMemPoolCreate(&pool, &props));
        if (cuMemAllocFromPoolAsync(&address, mib << 20, pool, stream) == CUDA_SUCCESS) granted += mib;
        if (destroy) CHECK(cuMemPoolDestroy(pool));
    }
    return granted;
}

static uint64_t step(void) {
    CUdeviceptr address;
    return cuMemAllocAsync(&address, mib << 20, stream) == CUDA_SUCCESS ? mib : 0;
}

static uint64_t graphs(void) {
    uint64_t granted = 0;
    for (int i = 0; i < 10; i++) {
        CUgraph graph;
        CUgraphNode node;
        CUgraphExec exec;
        CUDA_MEM_ALLOC_NODE_PARAMS params = { .poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE, .bytesize = mib << 20 };
        CHECK(cuGraphCreate(&graph, 0));
        CHECK(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params));
        if (cuGraphInstantiateWithFlags(&exec, graph, 0) != CUDA_SUCCESS) continue;
        CHECK(cuGraphLaunch(exec, stream));
        granted += mib;
    }
    return granted;
}

static uint64_t imported(void) {
    CUexternalMemory memory;
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC handle = { .type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, .size = mib << 20 };
    CHECK(cuImportExternalMemory(&memory, &handle));
    CHECK(cuDevicePrimaryCtxReset_v2(0));
    begin(0);
    return mib;
}

int main(int argc, char **argv) {
    if (argc < 3) return 3;
    const char *what = argv[1];
    mib = strtoull(argv[2], NULL, 10);
    begin(argc > 3 ? atoi(argv[3]) : 0);
    if (strcmp(what, "exec") == 0) report("before", plain());
    if (strcmp(what, "exec") == 0) return execl("/proc/self/exe", argv[0], "plain", argv[2], (char *)NULL);
    uint64_t granted = strcmp(what, "host") == 0        ? from_pool(CU_MEM_LOCATION_TYPE_HOST_NUMA, 1, false)
                       : strcmp(what, "hostgone") == 0  ? from_pool(CU_MEM_LOCATION_TYPE_HOST_NUMA, 1, true)
                       : strcmp(what, "destroyed") == 0 ? from_pool(CU_MEM_LOCATION_TYPE_DEVICE, 4, true)
                       : strcmp(what, "step") == 0      ? step()
                       : strcmp(what, "graphs") == 0    ? graphs()
                       : strcmp(what, "imported") == 0  ? imported()
                                                        : plain();
    report(what, granted);
    if (argc > 3) (void)getchar();
    return 0;
}
