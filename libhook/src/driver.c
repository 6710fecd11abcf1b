#define _GNU_SOURCE
#include "driver.h"

#include "locks.h"
#include "symbols.h"

#include <dlfcn.h>

struct ph_driver ph_driver;
static struct ph_mutex first_one = PH_MUTEX(DRIVER); /* publishes; nothing is called while it is held */

static CUresult cuda_missing(void) { return CUDA_ERROR_NOT_FOUND; }
static nvmlReturn_t nvml_missing(void) { return NVML_ERROR_FUNCTION_NOT_FOUND; }

bool ph_driver_lacks(const struct ph_call *call) {
    void *real = ph_real(call);
    return real == NULL || real == (void *)cuda_missing || real == (void *)nvml_missing;
}

/* Threads that race find the same addresses; each writes them, whole words at a time. */
static void fill(void *library, bool nvml) {
    void *missing = nvml ? (void *)nvml_missing : (void *)cuda_missing;
    ph_dlsym_function find = ph_glibc_dlsym();
    for (int i = 0; i < PH_COUNT; i++) {
        struct ph_call *call = &ph_calls[i];
        if ((call->since == 0) != nvml) continue;
        void *real = library ? find(library, call->symbol) : NULL;
        /* The driver resolving to ourselves would be a loop: then it is not there. */
        __atomic_store_n(&call->real, real && real != call->hook ? real : missing, __ATOMIC_RELAXED);
    }
}

void *ph_driver_cuda(void) { return __atomic_load_n(&ph_driver.cuda, __ATOMIC_ACQUIRE); }
void *ph_driver_nvml(void) { return __atomic_load_n(&ph_driver.nvml, __ATOMIC_ACQUIRE); }

/* Threads that race look everything up and the first publishes: what has been published is never written again. */
#define PH_FIND(name) found.name = (__typeof__(found.name))find(library, #name);
#define PH_PUBLISH(name) ph_driver.name = found.name;

void ph_driver_open_cuda(void) {
    if (ph_driver_cuda()) return;
    ph_driver_use(PH_LOADS);
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!library) library = dlopen("libcuda.so", RTLD_LAZY | RTLD_LOCAL);
    fill(library, false);
    if (!library) return;
    ph_dlsym_function find = ph_glibc_dlsym();
    struct ph_driver found;
    PH_CUDA_NEEDS(PH_FIND)
    ph_mutex_lock(&first_one);
    if (!ph_driver_cuda()) {
        PH_CUDA_NEEDS(PH_PUBLISH)
        __atomic_store_n(&ph_driver.cuda, library, __ATOMIC_RELEASE);
    }
    ph_mutex_unlock(&first_one);
}

void ph_driver_open_nvml(void) {
    if (ph_driver_nvml()) return;
    ph_driver_use(PH_LOADS);
    void *library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
    fill(library, true);
    if (!library) return;
    ph_dlsym_function find = ph_glibc_dlsym();
    struct ph_driver found;
    PH_NVML_NEEDS(PH_FIND)
    ph_mutex_lock(&first_one);
    if (!ph_driver_nvml()) {
        PH_NVML_NEEDS(PH_PUBLISH)
        __atomic_store_n(&ph_driver.nvml, library, __ATOMIC_RELEASE);
    }
    ph_mutex_unlock(&first_one);
}

bool ph_driver_start_nvml(void) {
    static bool started;
    ph_driver_open_nvml();
    if (!ph_driver_nvml() || !ph_driver.nvmlInit_v2) return false;
    ph_driver_use(PH_LOADS);
    if (!__atomic_load_n(&started, __ATOMIC_RELAXED) && ph_driver.nvmlInit_v2() != NVML_SUCCESS) return false;
    __atomic_store_n(&started, true, __ATOMIC_RELAXED);
    return true;
}

void ph_driver_after_fork(void) { ph_mutex_after_fork(&first_one); }
