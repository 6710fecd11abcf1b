/* Finds driver functions in every way programs do; prints "way symbol library" of each address found. Linked to no
 * driver at all, as Python or a statically linked CUDA runtime is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int (*get_v1)(const char *, void **, int, uint64_t);
typedef int (*get_v2)(const char *, void **, int, uint64_t, int *);

static void show(const char *way, const char *symbol, void *address) {
    Dl_info info = { 0 };
    const char *library = address && dladdr(address, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    printf("%s %s %s %s\n", way, symbol, address ? (library ? library + 1 : "?") : "none",
           info.dli_sname ? info.dli_sname : "-");
}

/* lookup FILE: by the driver's handle, every name in it; then CUDA starts. */
static int look_up_all(void *driver, const char *path) {
    char name[128];
    int found = 0;
    FILE *names = fopen(path, "r");
    if (!names) return 2;
    while (fscanf(names, "%127s", name) == 1) found += dlsym(driver, name) != NULL;
    fclose(names);
    int (*initialise)(unsigned int) = (int (*)(unsigned int))dlsym(driver, "cuInit");
    if (initialise(0) != 0) return 3;
    return printf("%d\n", found) < 0;
}

int main(int argc, char **argv) {
    static const char *const symbols[] = { "cuMemAlloc_v2", "cuMemAlloc", "cuLaunchKernel", "cuLaunchKernel_ptsz", "cuGraphLaunch",
                                           "cuMemAllocAsync_ptsz", "cuGetProcAddress", "cuGetProcAddress_v2", "cuMemCreate",
                                           "cuDriverGetVersion", "cuNoSuchThing" };
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!driver || !nvml) return fprintf(stderr, "%s\n", dlerror()), 2;
    if (argc > 1) return look_up_all(driver, argv[1]);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        show("handle", symbols[i], dlsym(driver, symbols[i]));
        show("default", symbols[i], dlsym(RTLD_DEFAULT, symbols[i]));
        show("next", symbols[i], dlsym(RTLD_NEXT, symbols[i]));
        show("twice", symbols[i], dlsym(driver, symbols[i]));
    }
    show("handle", "nvmlDeviceGetMemoryInfo", dlsym(nvml, "nvmlDeviceGetMemoryInfo"));
    show("handle", "nvmlDeviceGetComputeRunningProcesses_v3", dlsym(nvml, "nvmlDeviceGetComputeRunningProcesses_v3"));
    show("next", "malloc", dlsym(RTLD_NEXT, "malloc")); /* not ours: glibc must see the true caller */
    show("wrong", "cuMemAlloc_v2", dlsym(nvml, "cuMemAlloc_v2"));
    int (*initialise)(unsigned int) = (int (*)(unsigned int))dlsym(driver, "cuInit");
    initialise(0);
    static const char *const names[] = { "cuMemAlloc", "cuLaunchKernel", "cuMemAllocAsync", "cuCtxCreate", "cuMemPrefetchAsync",
                                         "cuGetProcAddress", "cuGraphInstantiate", "cuStreamSynchronize", "cuMemcpyDtoH" };
    static const int versions[] = { 2000, 3020, 11080, 12000, 12040, 12080, 13000, 13050 };
    get_v1 get1 = (get_v1)dlsym(driver, "cuGetProcAddress");
    get_v2 get2 = (get_v2)dlsym(driver, "cuGetProcAddress_v2");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t v = 0; v < sizeof versions / sizeof *versions; v++)
            for (int flags = 0; flags < 3; flags++) {
                char way[64];
                void *address = NULL;
                int status = 0;
                get1(names[i], &address, versions[v], (uint64_t)flags);
                snprintf(way, sizeof way, "proc1:%d:%d", versions[v], flags);
                show(way, names[i], address);
                address = NULL;
                get2(names[i], &address, versions[v], (uint64_t)flags, &status);
                snprintf(way, sizeof way, "proc2:%d:%d", versions[v], flags);
                show(way, names[i], address);
            }
    return 0;
}
