/* Contexts: their own bytes by policy, and everything that dies with them. Streams, whose measurements end with them. */
#define _GNU_SOURCE
#include "attach.h"
#include "batches.h"
#include "reconcile.h"
#include "config.h"
#include "device.h"
#include "hooks.h"
#include "allocations.h"
#include "overhead.h"
#include "streams.h"

CUresult ph_ctx_changes(const struct ph_call *call, CUcontext context) {
    CUresult result = PH_NEXT(call, cuCtxSetCurrent)(context);
    ph_current_changes();
    return result;
}

CUresult ph_ctx_pop(const struct ph_call *call, CUcontext *context) {
    CUresult result = PH_NEXT(call, cuCtxPopCurrent_v2)(context);
    ph_current_changes();
    return result;
}

/* False: no room for it. */
static bool begins(struct ph_new_context *fresh, int ordinal) {
    *fresh = (struct ph_new_context){ .ordinal = ordinal };
    uint64_t bytes = ph_config.context_memory == PH_CONTEXT_OFF ? 0 : ph_config.context_bytes;
    if (bytes && !ph_reserve_or_reconcile(ordinal, bytes)) return false;
    fresh->reserved = bytes;
    ph_context_begins(fresh);
    return true;
}

/* It is current at once. */
static CUresult made(struct ph_new_context *fresh, CUresult result, const CUcontext *context) {
    ph_current_changes();
    return ph_context_made(fresh, result, context);
}

CUresult ph_ctx_create(const struct ph_call *call, CUcontext *context, unsigned int flags, CUdevice device) {
    struct ph_new_context fresh;
    ph_attach();
    if (!context) return PH_NEXT(call, cuCtxCreate_v2)(context, flags, device);
    if (!begins(&fresh, ph_ordinal(device))) return CUDA_ERROR_OUT_OF_MEMORY;
    return made(&fresh, PH_NEXT(call, cuCtxCreate_v2)(context, flags, device), context);
}

CUresult ph_ctx_create_v3(const struct ph_call *call, CUcontext *context, CUexecAffinityParam *affinity, int count,
                          unsigned int flags, CUdevice device) {
    struct ph_new_context fresh;
    ph_attach();
    if (!context) return PH_NEXT(call, cuCtxCreate_v3)(context, affinity, count, flags, device);
    if (!begins(&fresh, ph_ordinal(device))) return CUDA_ERROR_OUT_OF_MEMORY;
    return made(&fresh, PH_NEXT(call, cuCtxCreate_v3)(context, affinity, count, flags, device), context);
}

CUresult ph_ctx_create_v4(const struct ph_call *call, CUcontext *context, CUctxCreateParams *params, unsigned int flags,
                          CUdevice device) {
    struct ph_new_context fresh;
    ph_attach();
    if (!context) return PH_NEXT(call, cuCtxCreate_v4)(context, params, flags, device);
    if (!begins(&fresh, ph_ordinal(device))) return CUDA_ERROR_OUT_OF_MEMORY;
    return made(&fresh, PH_NEXT(call, cuCtxCreate_v4)(context, params, flags, device), context);
}

static CUresult ended(CUresult result, CUcontext context) {
    ph_current_changes();
    if (result != CUDA_SUCCESS) return result;
    ph_allocations_drop_context((uintptr_t)context);
    ph_overhead_refresh();
    return result;
}

CUresult ph_ctx_destroy(const struct ph_call *call, CUcontext context) {
    ph_batches_forget_context(context);
    return ended(PH_NEXT(call, cuCtxDestroy_v2)(context), context);
}

CUresult ph_ctx_detach(const struct ph_call *call, CUcontext context) {
    ph_batches_forget_context(context);
    return ended(PH_NEXT(call, cuCtxDetach)(context), context);
}

static bool primary_active(CUdevice device) {
    unsigned int flags;
    int active = 1;
    if (ph_driver.cuDevicePrimaryCtxGetState) PH_ASK(cuDevicePrimaryCtxGetState)(device, &flags, &active);
    return active != 0;
}

/* The primary context's handle, learned when it is retained: releasing and resetting name only the device. */
static CUcontext primary[PH_MAX_DEVICES];

CUresult ph_primary_retain(const struct ph_call *call, CUcontext *context, CUdevice device) {
    struct ph_new_context fresh;
    ph_attach();
    int ordinal = ph_ordinal(device);
    bool made = context && !primary_active(device);
    if (made && !begins(&fresh, ordinal)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuDevicePrimaryCtxRetain)(context, device);
    if (made) ph_context_made(&fresh, result, context);
    if (result == CUDA_SUCCESS && context) __atomic_store_n(&primary[ordinal], *context, __ATOMIC_RELAXED);
    return result;
}

CUresult ph_primary_release(const struct ph_call *call, CUdevice device) {
    CUresult result = PH_NEXT(call, cuDevicePrimaryCtxRelease_v2)(device);
    CUcontext context = __atomic_load_n(&primary[ph_ordinal(device)], __ATOMIC_RELAXED);
    if (result == CUDA_SUCCESS && context && !primary_active(device)) {
        ph_batches_forget_context(context);
        ended(result, context);
    }
    return result;
}

CUresult ph_primary_reset(const struct ph_call *call, CUdevice device) {
    CUcontext context = __atomic_load_n(&primary[ph_ordinal(device)], __ATOMIC_RELAXED);
    if (context) ph_batches_forget_context(context);
    CUresult result = PH_NEXT(call, cuDevicePrimaryCtxReset_v2)(device);
    return context ? ended(result, context) : result;
}

CUresult ph_stream_destroy(const struct ph_call *call, CUstream stream) {
    ph_batches_forget_stream(stream);
    return PH_NEXT(call, cuStreamDestroy_v2)(stream);
}

/* Code: the driver puts it on the GPU now or, loading lazily, at its first use, which the housekeeper sees. */
static CUresult loaded(CUresult result) {
    if (result == CUDA_SUCCESS) ph_overhead_refresh();
    return result;
}

CUresult ph_module_load(const struct ph_call *call, CUmodule *module, const char *file) {
    return loaded(PH_NEXT(call, cuModuleLoad)(module, file));
}
CUresult ph_module_load_data(const struct ph_call *call, CUmodule *module, const void *image) {
    return loaded(PH_NEXT(call, cuModuleLoadData)(module, image));
}
CUresult ph_module_load_data_ex(const struct ph_call *call, CUmodule *module, const void *image, unsigned int count,
                                CUjit_option *options, void **values) {
    return loaded(PH_NEXT(call, cuModuleLoadDataEx)(module, image, count, options, values));
}
CUresult ph_module_unload(const struct ph_call *call, CUmodule module) {
    return loaded(PH_NEXT(call, cuModuleUnload)(module));
}
CUresult ph_library_load_data(const struct ph_call *call, CUlibrary *library, const void *code, CUjit_option *jit, void **jit_values,
                              unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    return loaded(PH_NEXT(call, cuLibraryLoadData)(library, code, jit, jit_values, jit_count, options, values, count));
}
CUresult ph_library_load_file(const struct ph_call *call, CUlibrary *library, const char *file, CUjit_option *jit, void **jit_values,
                              unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    return loaded(PH_NEXT(call, cuLibraryLoadFromFile)(library, file, jit, jit_values, jit_count, options, values, count));
}
CUresult ph_library_unload(const struct ph_call *call, CUlibrary library) {
    return loaded(PH_NEXT(call, cuLibraryUnload)(library));
}
