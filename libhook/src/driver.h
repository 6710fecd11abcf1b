/* The real driver: handles, and the functions we call that programs need no hook for. */
#pragma once

#include "calls.h"

#define PH_CUDA_NEEDS(X) \
    X(cuCtxGetCurrent) X(cuCtxPushCurrent_v2) X(cuCtxPopCurrent_v2) X(cuCtxGetDevice) X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetAttribute) X(cuDeviceGetPCIBusId) X(cuDeviceGetUuid) \
    X(cuDevicePrimaryCtxGetState) X(cuDeviceGetMemPool) X(cuDeviceGetDefaultMemPool) X(cuMemPoolGetAttribute) \
    X(cuDeviceGetGraphMemAttribute) X(cuGraphGetNodes) X(cuGraphNodeGetType) X(cuGraphMemAllocNodeGetParams) \
    X(cuGraphChildGraphNodeGetGraph) X(cuEventCreate) X(cuEventRecord) X(cuEventElapsedTime) X(cuEventDestroy_v2) \
    X(cuStreamIsCapturing) X(cuStreamGetCtx) X(cuThreadExchangeStreamCaptureMode)
#define PH_NVML_NEEDS(X) \
    X(nvmlInit_v2) X(nvmlDeviceGetCount_v2) X(nvmlDeviceGetHandleByIndex_v2) X(nvmlDeviceGetUUID) X(nvmlDeviceGetIndex) \
    X(nvmlDeviceGetHandleByUUID)

struct ph_driver {
    void *cuda; /* dlopen handles; NULL when not there */
    void *nvml;
#define PH_FIELD(name) __typeof__(&name) name;
    PH_CUDA_NEEDS(PH_FIELD)
    PH_NVML_NEEDS(PH_FIELD)
#undef PH_FIELD
};
extern struct ph_driver ph_driver;
/* A question of ours, to a function that is there. */
#define PH_ASK(name) (ph_driver_use(PH_ASKS), ph_driver.name)

/* Opens what is there and fills ph_calls. Missing functions get a stub that answers "not found". No lock is held
 * while the dynamic linker works: it has its own, and constructors of what it loads may call us. */
void ph_driver_open_cuda(void);
void ph_driver_open_nvml(void);
bool ph_driver_start_nvml(void); /* and initialises it, which may load libraries too; false: there is none, or it fails */
void ph_driver_after_fork(void);
void *ph_driver_cuda(void); /* the handle, NULL before it is open */
void *ph_driver_nvml(void);
bool ph_driver_lacks(const struct ph_call *call);
static inline CUcontext ph_current_context(void) {
    CUcontext context = NULL;
    if (PH_LIKELY(ph_driver.cuCtxGetCurrent != NULL)) PH_ASK(cuCtxGetCurrent)(&context);
    return context;
}
