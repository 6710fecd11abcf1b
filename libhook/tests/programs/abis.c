/* A program that finds the driver as the CUDA runtime does, and what it is handed.
 *   abis wsl        opens libcuda.so.1 and allocates 2 GiB through what dlsym gives it; prints the result
 *   abis newer      asks for the ABI of cuMemAlloc that a later CUDA has, of other parameters, and calls it; prints where
 *                   the function is and the result
 *   abis known      the same with the newest ABI that the hook knows */
#define _GNU_SOURCE
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void *library;

static void *find(const char *name) {
    void *found = dlsym(library, name);
    if (!found) fprintf(stderr, "%s is not there\n", name);
    return found;
}

static const char *name_of(void *function) {
    Dl_info info;
    return dladdr(function, &info) && info.dli_sname ? info.dli_sname : "?";
}

static const char *file_of(void *function) {
    Dl_info info;
    const char *slash = dladdr(function, &info) ? strrchr(info.dli_fname, '/') : NULL;
    return slash ? slash + 1 : "?";
}

static int wsl(void) {
    CUcontext context;
    CUdeviceptr address = 0;
    if (((__typeof__(&cuDevicePrimaryCtxRetain))find("cuDevicePrimaryCtxRetain"))(&context, 0)) return 2;
    if (((__typeof__(&cuCtxSetCurrent))find("cuCtxSetCurrent"))(context)) return 2;
    __typeof__(&cuMemAlloc_v2) allocate = (__typeof__(allocate))find("cuMemAlloc_v2");
    printf("1 MiB: %d, 2 GiB: %d\n", (int)allocate(&address, 1 << 20), (int)allocate(&address, 2ul << 30));
    return 0;
}

static int ask(int version) {
    void *function = NULL;
    CUdeviceptr address = 0;
    CUdriverProcAddressQueryResult found;
    if (((__typeof__(&cuGetProcAddress_v2))find("cuGetProcAddress_v2"))("cuMemAlloc", &function, version, 0, &found)) return 2;
    printf("%s in %s: ", name_of(function), file_of(function));
    if (version >= 14000) printf("%d\n", (int)((CUresult (*)(CUdeviceptr *, int, size_t))function)(&address, 7, 4096));
    else printf("%d\n", (int)((__typeof__(&cuMemAlloc_v2))function)(&address, 4096));
    return 0;
}

int main(int argc, char **argv) {
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (argc < 2 || !library || ((__typeof__(&cuInit))find("cuInit"))(0)) return 2;
    return strcmp(argv[1], "wsl") == 0 ? wsl() : ask(strcmp(argv[1], "newer") == 0 ? 14000 : 13000);
}
