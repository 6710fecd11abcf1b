/* The real driver: handles, and the functions we call that programs need no hook for. */
#pragma once

#include "hooks.h"

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

/* Opens what is there and fills ph_calls. Missing functions get a stub that answers "not found". No lock is held
 * while the dynamic linker works: it has its own, and constructors of what it loads may call us. */
void ph_driver_open_cuda(void);
void ph_driver_open_nvml(void);
void ph_driver_after_fork(void);
void *ph_driver_cuda(void); /* the handle, NULL before it is open */
void *ph_driver_nvml(void);
bool ph_driver_lacks(const struct ph_call *call);

/* interpose.c */
typedef void *(*ph_dlsym_function)(void *handle, const char *name);
ph_dlsym_function ph_glibc_dlsym(void);
const struct ph_call *ph_call_by_symbol(const char *symbol);

/* Says once that the driver has something that takes memory or GPU time and has no hook, if a program was given it. */
void ph_report_unknown(void);

/* device.c: ordinal = position among the container's GPUs, the index of limits and of the region */
void ph_devices_find(void);  /* with start.c's mutex held, all three */
void ph_devices_adopt(const char (*uuids)[96], int count); /* the order of the region, which has those of every process */
void ph_devices_match(void); /* CUDA's devices with those found, once CUDA is initialised */
extern int ph_device_count;
extern char ph_device_uuids[16][96];
int ph_ordinal(CUdevice device);       /* 0 for an unknown one */
int ph_current_ordinal(void);          /* of the current context; 0 without one */
int ph_nvml_ordinal(nvmlDevice_t device); /* -1: not one of the container's */
static inline CUcontext ph_current_context(void) {
    CUcontext context = NULL;
    if (PH_LIKELY(ph_driver.cuCtxGetCurrent != NULL)) ph_driver.cuCtxGetCurrent(&context);
    return context;
}
