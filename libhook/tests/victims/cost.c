/* What a call costs. Linked to no driver and found by dlopen, so that it runs under any libvgpu.so.
 *   cost --calls N --allocations N    prints {"launch_ns":…, "launch_p99_ns":…, "alloc_free_ns":…, "init_us":…} */
#include "victim.h"

#include <dlfcn.h>

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
#define FIND(name) __typeof__(&name) p_##name = (__typeof__(&name))dlsym(driver, #name)

int main(int argc, char **argv) {
    int calls = (int)number(argc, argv, "--calls", 200000), rounds = 64;
    int64_t before = now_ns(), zero = 0, allocations = number(argc, argv, "--allocations", 20000);
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) return 2;
    FIND(cuInit);
    FIND(cuDevicePrimaryCtxRetain);
    FIND(cuCtxSetCurrent);
    FIND(cuModuleLoadData);
    FIND(cuModuleGetFunction);
    FIND(cuLaunchKernel);
    FIND(cuMemAlloc_v2);
    FIND(cuMemFree_v2);
    FIND(cuCtxSynchronize);
    CUcontext context;
    CUmodule module;
    CUfunction spin;
    void *parameters[] = { &zero };
    CHECK(p_cuInit(0));
    CHECK(p_cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(p_cuCtxSetCurrent(context));
    int64_t started = now_ns();
    CHECK(p_cuModuleLoadData(&module, SPIN_PTX));
    CHECK(p_cuModuleGetFunction(&spin, module, "spin"));
    int64_t *samples = malloc(sizeof *samples * (size_t)(calls / rounds));
    int count = 0;
    for (int i = 0; i < 2000; i++) CHECK(p_cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
    for (int i = 0; i + rounds <= calls; i += rounds) {
        int64_t from = now_ns();
        for (int j = 0; j < rounds; j++) p_cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL);
        samples[count++] = (now_ns() - from) / rounds;
        if (count % 16 == 0) CHECK(p_cuCtxSynchronize());
    }
    qsort(samples, (size_t)count, sizeof *samples, by_size);
    CUdeviceptr a;
    int64_t from = now_ns();
    for (int64_t i = 0; i < allocations; i++) {
        CHECK(p_cuMemAlloc_v2(&a, 1 << 20));
        CHECK(p_cuMemFree_v2(a));
    }
    int64_t alloc = (now_ns() - from) / allocations;
    printf("{\"launch_ns\": %lld, \"launch_p99_ns\": %lld, \"alloc_free_ns\": %lld, \"init_us\": %lld}\n",
           (long long)samples[count / 2], (long long)samples[count * 99 / 100], (long long)alloc, (long long)(started - before) / 1000);
    return 0;
}
