#define _GNU_SOURCE
#include "driver.h"

#include "log.h"

#include <dlfcn.h>
#include <string.h>

struct ph_driver ph_driver;

static CUresult cuda_missing(void) { return CUDA_ERROR_NOT_FOUND; }
static nvmlReturn_t nvml_missing(void) { return NVML_ERROR_FUNCTION_NOT_FOUND; }

bool ph_driver_lacks(const struct ph_call *call) {
    return call->real == NULL || call->real == (void *)cuda_missing || call->real == (void *)nvml_missing;
}

static void fill(void *library, const char *prefix, void *missing) {
    ph_dlsym_function find = ph_glibc_dlsym();
    for (int i = 0; i < PH_COUNT; i++) {
        struct ph_call *call = &ph_calls[i];
        if (strncmp(call->symbol, prefix, strlen(prefix)) != 0) continue;
        void *real = library ? find(library, call->symbol) : NULL;
        /* The driver resolving to ourselves would be a loop: then it is not there. */
        call->real = real && real != call->hook ? real : missing;
    }
}

void ph_driver_open_cuda(void) {
    if (ph_driver.cuda) return;
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!library) library = dlopen("libcuda.so", RTLD_LAZY | RTLD_LOCAL);
    fill(library, "cu", (void *)cuda_missing);
    if (!library) return;
    ph_dlsym_function find = ph_glibc_dlsym();
#define PH_FIND(name) ph_driver.name = (__typeof__(ph_driver.name))find(library, #name);
    PH_CUDA_NEEDS(PH_FIND)
    ph_driver.cuda = library;
}

void ph_driver_open_nvml(void) {
    if (ph_driver.nvml) return;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
    fill(library, "nvml", (void *)nvml_missing);
    if (!library) return;
    ph_dlsym_function find = ph_glibc_dlsym();
    PH_NVML_NEEDS(PH_FIND)
#undef PH_FIND
    ph_driver.nvml = library;
}
