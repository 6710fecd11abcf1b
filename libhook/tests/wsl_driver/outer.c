/* A libcuda.so.1 as WSL2 has one: it opens the driver proper, here the second fake driver under another name, and finds
 * its functions there by dlsym on that handle, from inside each call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static void *inner(const char *name) {
    static void *library;
    if (!library) library = dlopen("libcuda_inner.so", RTLD_NOW | RTLD_LOCAL);
    return library ? dlsym(library, name) : NULL;
}

#define FORWARD(name, parameters, ...)                                                   \
    __attribute__((visibility("default"))) int name parameters;                          \
    int name parameters {                                                                \
        int (*next) parameters = (__typeof__(next))inner(#name);                         \
        return next ? next(__VA_ARGS__) : 500; /* CUDA_ERROR_NOT_FOUND */                \
    }
FORWARD(cuInit, (unsigned int flags), flags)
FORWARD(cuDeviceGetCount, (int *count), count)
FORWARD(cuDeviceGet, (int *device, int ordinal), device, ordinal)
FORWARD(cuDeviceGetUuid, (void *uuid, int device), uuid, device)
FORWARD(cuDevicePrimaryCtxRetain, (void **context, int device), context, device)
FORWARD(cuCtxSetCurrent, (void *context), context)
FORWARD(cuCtxGetCurrent, (void **context), context)
FORWARD(cuMemAlloc_v2, (unsigned long long *address, size_t bytes), address, bytes)
FORWARD(cuMemGetInfo_v2, (size_t *available, size_t *total), available, total)
