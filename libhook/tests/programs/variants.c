/* Other ABIs of the usual calls, and calls that few programs make. With memory.c, every hook that takes or gives back
 * device memory is called by the very name that it is exported under. */
#include "families.h"

/* A call that fails changes nothing, so it may be made again. */
#define TWICE(call) ((call) == CUDA_SUCCESS || (call) == CUDA_SUCCESS)

static const CUmemAllocationProp ON_GPU = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                            .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };

static void first_abi(size_t size) {
    CUdeviceptr_v1 a = 0;
    unsigned int pitch;
    CUarray array;
    CUDA_ARRAY_DESCRIPTOR_v1 flat = { .Width = 1024, .Height = (unsigned int)(size / 4096), .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
    CUDA_ARRAY3D_DESCRIPTOR_v1 deep = {
        .Width = 1024, .Height = (unsigned int)(size / 8192), .Depth = 2, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
    if (cuMemAllocPitch(&a, &pitch, 1000, (unsigned int)(size / 1024), 4) == CUDA_SUCCESS) (void)TWICE(cuMemFree(a));
    if (cuArrayCreate(&array, &flat) == CUDA_SUCCESS) (void)TWICE(cuArrayDestroy(array));
    if (cuArray3DCreate(&array, &deep) == CUDA_SUCCESS) (void)TWICE(cuArrayDestroy(array));
}

static void per_thread_streams(size_t size) {
    CUdeviceptr a = 0;
    CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = ON_GPU.location };
    CUmemoryPool pool;
    if (cuMemAllocAsync_ptsz(&a, size, NULL) == CUDA_SUCCESS) (void)TWICE(cuMemFreeAsync_ptsz(a, NULL));
    if (cuMemPoolCreate(&pool, &props) == CUDA_SUCCESS) {
        if (cuMemAllocFromPoolAsync_ptsz(&a, size, pool, NULL) == CUDA_SUCCESS) (void)TWICE(cuMemFreeAsync_ptsz(a, NULL));
        (void)TWICE(cuMemPoolDestroy(pool));
    }
    (void)TWICE(cuCtxSynchronize());
}

/* Memory that lives on in a multicast object after its mapping and its handle are gone. */
static void bind(CUmemGenericAllocationHandle object, size_t size, int how) {
    CUmemGenericAllocationHandle memory;
    CUdeviceptr range = 0;
    if (cuMemAddressReserve(&range, size, 0, 0, 0) != CUDA_SUCCESS || cuMemCreate(&memory, size, &ON_GPU, 0) != CUDA_SUCCESS) return;
    bool mapped = cuMemMap(range, size, 0, memory, 0) == CUDA_SUCCESS, bound = false;
    if (how == 0) bound = cuMulticastBindMem_v2(object, 0, 0, memory, 0, size, 0) == CUDA_SUCCESS;
    if (how == 1) bound = mapped && cuMulticastBindAddr(object, 0, range, size, 0) == CUDA_SUCCESS;
    if (how == 2) bound = mapped && cuMulticastBindAddr_v2(object, 0, 0, range, size, 0) == CUDA_SUCCESS;
    (void)TWICE(cuMemRelease(memory));
    if (mapped) (void)TWICE(cuMemUnmap(range, size));
    if (bound && charged() < size) exit(7);
    if (bound) (void)TWICE(cuMulticastUnbind(object, 0, 0, size));
}

static void multicast_variants(size_t size) {
    CUmulticastObjectProp prop = { .numDevices = 1, .size = size };
    CUmemGenericAllocationHandle object;
    if (cuMulticastCreate(&object, &prop) != CUDA_SUCCESS) return;
    for (int how = 0; how < 3; how++) bind(object, size, how);
}

/* A sparse array holds nothing; what is mapped into it lives on without its handle. */
static void tile(CUarray array, size_t size, CUresult (*map)(CUarrayMapInfo *, unsigned int, CUstream)) {
    CUmemGenericAllocationHandle memory;
    if (cuMemCreate(&memory, size, &ON_GPU, 0) != CUDA_SUCCESS) return;
    CUarrayMapInfo info = { .resourceType = CU_RESOURCE_TYPE_ARRAY, .resource.array = array,
                            .memOperationType = CU_MEM_OPERATION_TYPE_MAP, .memHandleType = CU_MEM_HANDLE_TYPE_GENERIC,
                            .memHandle.memHandle = memory };
    bool mapped = map(&info, 1, stream) == CUDA_SUCCESS;
    (void)TWICE(cuMemRelease(memory));
    if (!mapped) return;
    if (charged() < size) exit(8);
    info.memOperationType = CU_MEM_OPERATION_TYPE_UNMAP;
    info.memHandle.memHandle = 0;
    (void)TWICE(map(&info, 1, stream));
}

static void sparse(size_t size) {
    CUarray array;
    CUDA_ARRAY3D_DESCRIPTOR empty = { .Width = 1024, .Height = size / 4096, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1,
                                      .Flags = CUDA_ARRAY3D_SPARSE };
    if (cuArray3DCreate_v2(&array, &empty) != CUDA_SUCCESS) return;
    tile(array, size, cuMemMapArrayAsync);
    tile(array, size, cuMemMapArrayAsync_ptsz);
    (void)TWICE(cuArrayDestroy(array));
}

static void instantiated(CUresult result, const CUgraphExec *exec, size_t size) {
    if (result != CUDA_SUCCESS) return;
    if (charged() < size) exit(9);
    (void)TWICE(cuGraphExecDestroy(*exec));
    (void)TWICE(cuDeviceGraphMemTrim(0));
}

static void graph_variants(size_t size) {
    CUgraph graph;
    CUgraphExec exec = NULL;
    CUgraphNode node;
    CUDA_MEM_ALLOC_NODE_PARAMS params = { .bytesize = size };
    CUDA_GRAPH_INSTANTIATE_PARAMS how = { 0 };
    if (cuGraphCreate(&graph, 0) != CUDA_SUCCESS) return;
    if (cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params) == CUDA_SUCCESS) {
        instantiated(cuGraphInstantiate(&exec, graph, NULL, NULL, 0), &exec, size);
        instantiated(cuGraphInstantiate_v2(&exec, graph, NULL, NULL, 0), &exec, size);
        instantiated(cuGraphInstantiateWithParams(&exec, graph, &how), &exec, size);
        instantiated(cuGraphInstantiateWithParams_ptsz(&exec, graph, &how), &exec, size);
    }
    cuGraphDestroy(graph);
}

/* Each with something of its own that goes with it. */
static void ends(CUcontext made, CUresult (*end)(CUcontext), size_t size) {
    CUdeviceptr a;
    cuMemAlloc_v2(&a, size);
    (void)TWICE(end(made));
    cuCtxSetCurrent(context);
}

static void context_variants(size_t size) {
    CUcontext made;
    if (cuCtxCreate(&made, 0, 0) == CUDA_SUCCESS) ends(made, cuCtxDestroy, size);
    if (cuCtxCreate_v3(&made, NULL, 0, 0, 0) == CUDA_SUCCESS) ends(made, cuCtxDetach, size);
    if (cuCtxCreate_v4(&made, NULL, 0, 0) == CUDA_SUCCESS) ends(made, cuCtxDestroy_v2, size);
}

static void code(size_t size) {
    CUmodule module;
    CUlibrary library;
    (void)size;
    if (cuModuleLoad(&module, "program.cubin") == CUDA_SUCCESS) (void)TWICE(cuModuleUnload(module));
    if (cuModuleLoadFatBinary(&module, SPIN_PTX) == CUDA_SUCCESS) (void)TWICE(cuModuleUnload(module));
    if (cuLibraryLoadFromFile(&library, "program.fatbin", NULL, NULL, 0, NULL, NULL, 0) == CUDA_SUCCESS)
        (void)TWICE(cuLibraryUnload(library));
}

static CUresult end_primary(int how) {
    switch (how) {
    case 0: return cuDevicePrimaryCtxReset(0);
    case 1: return cuDevicePrimaryCtxReset_v2(0);
    case 2: return cuDevicePrimaryCtxRelease(0);
    default: return cuDevicePrimaryCtxRelease_v2(0);
    }
}

/* The last: it takes everything with it, the stream too. */
static void primary_context(size_t size) {
    for (int how = 0; how < 4; how++) {
        CUdeviceptr a;
        cuMemAlloc_v2(&a, size);
        for (int active = 1; active;) { /* a release ends it only when it is the last */
            unsigned int flags;
            if (!TWICE(end_primary(how)) || !TWICE(cuDevicePrimaryCtxGetState(0, &flags, &active))) active = 0;
        }
        if (!TWICE(cuDevicePrimaryCtxRetain(&context, 0))) exit(10);
        cuCtxSetCurrent(context);
    }
}

const struct family variants[] = {
    { "first_abi", first_abi },
    { "per_thread_streams", per_thread_streams },
    { "multicast_variants", multicast_variants },
    { "sparse", sparse },
    { "graph_variants", graph_variants },
    { "context_variants", context_variants },
    { "code", code },
    { "primary_context", primary_context },
};
const size_t variants_count = sizeof variants / sizeof *variants;
