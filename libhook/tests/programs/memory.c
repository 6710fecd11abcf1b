/* Every way to get device memory, one family after another. After each the container's account must equal what
 * the machine really gave: prints "family charged real" and fails if they differ, or if anything is left.
 * Runs to the end even if single calls fail (FAKE_CUDA_FAIL), so that it serves the Nth-call sweep too.
 *   memory [--only FAMILY] [--size BYTES]
 * The usual ways are here, other ABIs and rarer calls in variants.c. */
#include "families.h"

static const size_t SIZE = 64u << 20;
CUstream stream;
CUcontext context;

uint64_t charged(void) {
    size_t free_bytes = 0, total = 0;
    if (cuMemGetInfo_v2(&free_bytes, &total) != CUDA_SUCCESS && cuMemGetInfo_v2(&free_bytes, &total) != CUDA_SUCCESS) exit(2);
    return total - free_bytes;
}

static void linear(size_t size) {
    CUdeviceptr a = 0;
    if (cuMemAlloc_v2(&a, size) == CUDA_SUCCESS) {
        if (charged() < size) exit(3);
        if (cuMemFree_v2(a) != CUDA_SUCCESS) cuMemFree_v2(a);
    }
}
static void pitched(size_t size) {
    CUdeviceptr a = 0;
    size_t pitch;
    if (cuMemAllocPitch_v2(&a, &pitch, 1000, size / 1024, 4) == CUDA_SUCCESS && cuMemFree_v2(a) != CUDA_SUCCESS) cuMemFree_v2(a);
}
static void managed(size_t size) {
    CUdeviceptr a = 0;
    if (cuMemAllocManaged(&a, size, CU_MEM_ATTACH_GLOBAL) == CUDA_SUCCESS && cuMemFree_v2(a) != CUDA_SUCCESS) cuMemFree_v2(a);
}
static void pooled(size_t size) {
    CUdeviceptr a = 0, b = 0;
    if (cuMemAllocAsync(&a, size, stream) == CUDA_SUCCESS) {
        if (cuMemAllocAsync(&b, size / 4, stream) == CUDA_SUCCESS && cuMemFreeAsync(b, stream) != CUDA_SUCCESS) cuMemFreeAsync(b, stream);
        if (cuMemFreeAsync(a, stream) != CUDA_SUCCESS) cuMemFreeAsync(a, stream);
    }
    if (cuStreamSynchronize(stream) != CUDA_SUCCESS) cuStreamSynchronize(stream);
}
static void own_pool(size_t size) {
    CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };
    CUmemoryPool pool;
    CUdeviceptr a = 0;
    if (cuMemPoolCreate(&pool, &props) != CUDA_SUCCESS) return;
    if (cuMemAllocFromPoolAsync(&a, size, pool, stream) == CUDA_SUCCESS && cuMemFree_v2(a) != CUDA_SUCCESS) cuMemFree_v2(a);
    cuMemPoolTrimTo(pool, 0);
    if (cuMemPoolDestroy(pool) != CUDA_SUCCESS) cuMemPoolDestroy(pool);
}
static void physical(size_t size) { /* PyTorch's expandable segments: the handle goes first, the mapping keeps the memory */
    CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };
    CUmemGenericAllocationHandle handle, again;
    CUdeviceptr range = 0;
    if (cuMemAddressReserve(&range, size, 0, 0, 0) != CUDA_SUCCESS || cuMemCreate(&handle, size, &prop, 0) != CUDA_SUCCESS) return;
    bool mapped = cuMemMap(range, size, 0, handle, 0) == CUDA_SUCCESS;
    if (cuMemRelease(handle) != CUDA_SUCCESS) cuMemRelease(handle);
    if (mapped && charged() < size) exit(4); /* live memory must stay charged */
    if (mapped && cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)range) == CUDA_SUCCESS && cuMemRelease(again) != CUDA_SUCCESS)
        cuMemRelease(again);
    if (mapped && cuMemUnmap(range, size) != CUDA_SUCCESS) cuMemUnmap(range, size);
}
static void multicast(size_t size) {
    CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };
    CUmulticastObjectProp object_prop = { .numDevices = 1, .size = size };
    CUmemGenericAllocationHandle object, memory;
    if (cuMulticastCreate(&object, &object_prop) != CUDA_SUCCESS || cuMemCreate(&memory, size, &prop, 0) != CUDA_SUCCESS) return;
    bool bound = cuMulticastBindMem(object, 0, memory, 0, size, 0) == CUDA_SUCCESS;
    if (cuMemRelease(memory) != CUDA_SUCCESS) cuMemRelease(memory);
    if (bound && charged() < size) exit(5);
    if (bound && cuMulticastUnbind(object, 0, 0, size) != CUDA_SUCCESS) cuMulticastUnbind(object, 0, 0, size);
}
static void arrays(size_t size) {
    CUarray array;
    CUDA_ARRAY_DESCRIPTOR flat = { .Width = 1024, .Height = size / 4096, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
    CUDA_ARRAY3D_DESCRIPTOR deep = { .Width = 1024, .Height = size / 8192, .Depth = 2, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
    if (cuArrayCreate_v2(&array, &flat) == CUDA_SUCCESS && cuArrayDestroy(array) != CUDA_SUCCESS) cuArrayDestroy(array);
    if (cuArray3DCreate_v2(&array, &deep) == CUDA_SUCCESS && cuArrayDestroy(array) != CUDA_SUCCESS) cuArrayDestroy(array);
}
static void mipmaps(size_t size) {
    CUmipmappedArray array;
    CUDA_ARRAY3D_DESCRIPTOR deep = { .Width = 1024, .Height = size / 4096, .Depth = 0, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
    if (cuMipmappedArrayCreate(&array, &deep, 1) == CUDA_SUCCESS && cuMipmappedArrayDestroy(array) != CUDA_SUCCESS)
        cuMipmappedArrayDestroy(array);
}
static void external(size_t size) {
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC desc = { .type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, .size = size };
    CUexternalMemory memory;
    if (cuImportExternalMemory(&memory, &desc) == CUDA_SUCCESS && cuDestroyExternalMemory(memory) != CUDA_SUCCESS)
        cuDestroyExternalMemory(memory);
}
static void graphs(size_t size) {
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode node;
    CUDA_MEM_ALLOC_NODE_PARAMS params = { .bytesize = size };
    if (cuGraphCreate(&graph, 0) != CUDA_SUCCESS) return;
    if (cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params) == CUDA_SUCCESS &&
        cuGraphInstantiateWithFlags(&exec, graph, 0) == CUDA_SUCCESS) {
        if (charged() < size) exit(6);
        cuGraphLaunch(exec, stream);
        if (cuGraphExecDestroy(exec) != CUDA_SUCCESS) cuGraphExecDestroy(exec);
        if (cuDeviceGraphMemTrim(0) != CUDA_SUCCESS) cuDeviceGraphMemTrim(0);
    }
    cuGraphDestroy(graph);
}
static void old_names(size_t size) {
    CUdeviceptr_v1 a = 0;
    if (cuMemAlloc(&a, (unsigned int)size) == CUDA_SUCCESS && cuMemFree(a) != CUDA_SUCCESS) cuMemFree(a);
}
static void dying_context(size_t size) { /* what is never freed goes with its context */
    static CUcontext other;
    CUdeviceptr a = 0;
    if (cuCtxCreate_v2(&other, 0, 0) != CUDA_SUCCESS) return;
    cuMemAlloc_v2(&a, size);
    if (cuCtxDestroy_v2(other) != CUDA_SUCCESS) cuCtxDestroy_v2(other);
    cuCtxSetCurrent(context);
}

static void modules(size_t size) { /* one used at once, one unloaded by its context's end, and a library */
    CUmodule module;
    CUlibrary library;
    CUfunction function;
    (void)size;
    if (cuModuleLoadData(&module, SPIN_PTX) == CUDA_SUCCESS) {
        if (cuModuleGetFunction(&function, module, "spin") == CUDA_SUCCESS) charged();
        if (cuModuleUnload(module) != CUDA_SUCCESS) cuModuleUnload(module);
    }
    if (cuModuleLoadDataEx(&module, SPIN_PTX, 0, NULL, NULL) == CUDA_SUCCESS) charged();
    if (cuLibraryLoadData(&library, SPIN_PTX, NULL, NULL, 0, NULL, NULL, 0) == CUDA_SUCCESS) {
        charged();
        if (cuLibraryUnload(library) != CUDA_SUCCESS) cuLibraryUnload(library);
    }
}

static const struct family usual[] = {
    { "linear", linear },       { "pitched", pitched },     { "managed", managed },   { "pooled", pooled },
    { "own_pool", own_pool },   { "physical", physical },   { "multicast", multicast }, { "arrays", arrays },
    { "mipmaps", mipmaps },     { "external", external },   { "graphs", graphs },     { "old_names", old_names },
    { "dying_context", dying_context }, { "modules", modules },
};

int main(int argc, char **argv) {
    const char *only = option(argc, argv, "--only", NULL);
    size_t size = (size_t)number(argc, argv, "--size", (int64_t)SIZE);
    int differences = 0;
    if (cuInit(0) != CUDA_SUCCESS) CHECK(cuInit(0));
    if (cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS) CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    cuCtxSetCurrent(context);
    CHECK(cuCtxSetCurrent(context));
    if (cuStreamCreate(&stream, 0) != CUDA_SUCCESS) CHECK(cuStreamCreate(&stream, 0));
    size_t count = sizeof usual / sizeof *usual;
    for (size_t i = 0; i < count + variants_count; i++) {
        const struct family *family = i < count ? &usual[i] : &variants[i - count];
        if (only && strcmp(only, family->name) != 0) continue;
        family->run(size);
        uint64_t real = on_fake_machine() ? fg_memory_own(0) : 0; /* a real GPU does not say; all was given back */
        uint64_t booked = charged() != real ? charged() : real; /* a failed question is asked again */
        printf("%s %llu %llu\n", family->name, (unsigned long long)booked, (unsigned long long)real);
        differences += booked != real;
    }
    return differences ? 1 : 0;
}
