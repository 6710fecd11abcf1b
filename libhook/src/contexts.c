/* Contexts: their own bytes by policy, and everything that dies with them. */
#define _GNU_SOURCE
#include "batches.h"
#include "config.h"
#include "memory.h"

static bool reserve_context(int device) {
    return ph_config.context_bytes == 0 || ph_reserve_or_refresh(device, ph_config.context_bytes);
}

static CUresult booked(CUresult result, CUcontext *context, int device) {
    if (ph_config.context_bytes == 0) return result;
    if (result != CUDA_SUCCESS) ph_release(device, ph_config.context_bytes);
    else
        ph_ledger_add((struct ph_entry){ .key = (uintptr_t)*context, .holding = PH_CONTEXT, .device = device,
                                         .bytes = ph_config.context_bytes, .other = (uintptr_t)*context });
    return result;
}

CUresult ph_ctx_create(const struct ph_call *call, CUcontext *context, unsigned int flags, CUdevice device) {
    ph_attach();
    if (!context || !reserve_context(ph_ordinal(device)))
        return context ? CUDA_ERROR_OUT_OF_MEMORY : PH_NEXT(call, cuCtxCreate_v2)(context, flags, device);
    return booked(PH_NEXT(call, cuCtxCreate_v2)(context, flags, device), context, ph_ordinal(device));
}

CUresult ph_ctx_create_v3(const struct ph_call *call, CUcontext *context, CUexecAffinityParam *affinity, int count,
                          unsigned int flags, CUdevice device) {
    ph_attach();
    if (!context || !reserve_context(ph_ordinal(device)))
        return context ? CUDA_ERROR_OUT_OF_MEMORY : PH_NEXT(call, cuCtxCreate_v3)(context, affinity, count, flags, device);
    return booked(PH_NEXT(call, cuCtxCreate_v3)(context, affinity, count, flags, device), context, ph_ordinal(device));
}

CUresult ph_ctx_create_v4(const struct ph_call *call, CUcontext *context, CUctxCreateParams *params, unsigned int flags,
                          CUdevice device) {
    ph_attach();
    if (!context || !reserve_context(ph_ordinal(device)))
        return context ? CUDA_ERROR_OUT_OF_MEMORY : PH_NEXT(call, cuCtxCreate_v4)(context, params, flags, device);
    return booked(PH_NEXT(call, cuCtxCreate_v4)(context, params, flags, device), context, ph_ordinal(device));
}

static CUresult ended(CUresult result, CUcontext context) {
    if (result == CUDA_SUCCESS) ph_ledger_drop_context((uintptr_t)context);
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
    if (ph_driver.cuDevicePrimaryCtxGetState) ph_driver.cuDevicePrimaryCtxGetState(device, &flags, &active);
    return active != 0;
}

/* The primary context's handle, learned when it is retained: releasing and resetting name only the device. */
static CUcontext primary[PH_MAX_DEVICES];

CUresult ph_primary_retain(const struct ph_call *call, CUcontext *context, CUdevice device) {
    ph_attach();
    int ordinal = ph_ordinal(device);
    bool fresh = context && ph_config.context_bytes && !primary_active(device);
    if (fresh && !reserve_context(ordinal)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuDevicePrimaryCtxRetain)(context, device);
    if (fresh) booked(result, context, ordinal);
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
