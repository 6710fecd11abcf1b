/* Stream-ordered allocation. What counts is in pool_sizes.h. */
#define _GNU_SOURCE
#include "account.h"
#include "attach.h"
#include "reconcile.h"
#include "captures.h"
#include "device.h"
#include "hooks.h"
#include "allocations.h"
#include "pool_sizes.h"
#include "streams.h"

/* `allocate` in the pool: room is reserved only for what the pool cannot serve from memory it already holds. */
struct request {
    const struct ph_call *call;
    CUdeviceptr *dptr;
    size_t size;
    CUmemoryPool pool; /* NULL: the device's current one */
    CUstream stream;
};

static CUresult ask_driver(const struct request *r, bool from_pool) {
    return from_pool ? PH_NEXT(r->call, cuMemAllocFromPoolAsync)(r->dptr, r->size, r->pool, r->stream)
                     : PH_NEXT(r->call, cuMemAllocAsync)(r->dptr, r->size, r->stream);
}

static CUresult allocate(const struct request *r, bool from_pool) {
    ph_attach();
    if (!r->dptr || !r->size || !r->pool || ph_capturing(r->stream, r->call->per_thread)) return ask_driver(r, from_pool);
    struct ph_entry pool;
    if (!ph_allocations_find(PH_POOL, (uintptr_t)r->pool, &pool)) ph_pool_meet(r->pool, ph_pool_place(r->pool));
    if (!ph_allocations_find(PH_POOL, (uintptr_t)r->pool, &pool)) return CUDA_ERROR_OUT_OF_MEMORY;
    if (pool.device == PH_OF_THE_HOST) return ask_driver(r, from_pool);
    uint64_t reserved, used, bytes = ph_round_up(r->size, 512), size = bytes;
    bool readable = ph_pool_holds(r->pool, &reserved, &used);
    bool grows = !readable || reserved - used < bytes;
    if (readable && grows) bytes = ph_round_up(used + bytes - reserved, pool.other);
    if (grows && !ph_reserve_or_reconcile(pool.device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = ask_driver(r, from_pool);
    if (result == CUDA_SUCCESS)
        ph_allocations_add((struct ph_entry){ .key = *r->dptr, .holding = PH_ASYNC, .device = pool.device,
                                         .bytes = readable ? 0 : bytes, .size = size, .other = (uintptr_t)r->pool });
    if (readable) {
        uint64_t after = ph_pool_follow(r->pool);
        if (grows) ph_release(pool.device, bytes);
        if (grows) ph_pool_learn_step(&pool, reserved, after);
    } else if (result != CUDA_SUCCESS) {
        ph_release(pool.device, bytes);
    }
    return result;
}

/* The current pool of the stream's device, which need not be the current context's. */
static CUmemoryPool pool_for(CUstream stream) {
    CUmemoryPool pool = NULL;
    CUcontext context = NULL;
    CUdevice device = 0;
    bool other = ph_device_count > 1 && !ph_stream_special(stream) && ph_driver.cuStreamGetCtx && ph_driver.cuCtxPushCurrent_v2 &&
                 PH_ASK(cuStreamGetCtx)(stream, &context) == CUDA_SUCCESS && PH_ASK(cuCtxPushCurrent_v2)(context) == CUDA_SUCCESS;
    if (ph_driver.cuCtxGetDevice && PH_ASK(cuCtxGetDevice)(&device) == CUDA_SUCCESS && ph_driver.cuDeviceGetMemPool)
        PH_ASK(cuDeviceGetMemPool)(&pool, device);
    if (other) PH_ASK(cuCtxPopCurrent_v2)(&context);
    return pool;
}

CUresult ph_mem_alloc_async(const struct ph_call *call, CUdeviceptr *dptr, size_t size, CUstream stream) {
    return allocate(&(struct request){ call, dptr, size, pool_for(stream), stream }, false);
}

CUresult ph_mem_alloc_from_pool(const struct ph_call *call, CUdeviceptr *dptr, size_t size, CUmemoryPool pool, CUstream stream) {
    return allocate(&(struct request){ call, dptr, size, pool, stream }, true);
}

CUresult ph_mem_free_async(const struct ph_call *call, CUdeviceptr dptr, CUstream stream) {
    struct ph_entry entry;
    enum ph_holding holding = PH_ASYNC;
    bool known = ph_allocations_take(PH_ASYNC, dptr, &entry) ||
                 (holding = PH_LINEAR, ph_allocations_take(PH_LINEAR, dptr, &entry));
    CUresult result = PH_NEXT(call, cuMemFreeAsync)(dptr, stream);
    if (known && result == CUDA_SUCCESS) ph_release(entry.device, entry.bytes);
    else if (known) ph_allocations_add(entry);
    if (known && holding == PH_ASYNC) ph_pool_follow((CUmemoryPool)(uintptr_t)entry.other);
    return result;
}

CUresult ph_mem_pool_create(const struct ph_call *call, CUmemoryPool *pool, const CUmemPoolProps *props) {
    ph_attach();
    CUresult result = PH_NEXT(call, cuMemPoolCreate)(pool, props);
    if (result != CUDA_SUCCESS || !pool || !props) return result;
    bool of_host = props->location.type != CU_MEM_LOCATION_TYPE_DEVICE && props->allocType == CU_MEM_ALLOCATION_TYPE_PINNED;
    ph_pool_meet(*pool, of_host ? PH_OF_THE_HOST : props->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? ph_ordinal(props->location.id)
                                                                                          : ph_current_ordinal());
    return result;
}

CUresult ph_mem_pool_destroy(const struct ph_call *call, CUmemoryPool pool) {
    struct ph_entry entry;
    bool known = ph_allocations_take(PH_POOL, (uintptr_t)pool, &entry);
    CUresult result = PH_NEXT(call, cuMemPoolDestroy)(pool);
    if (known && result != CUDA_SUCCESS) ph_allocations_add(entry);
    if (!known || result != CUDA_SUCCESS || entry.device == PH_OF_THE_HOST) return result;
    /* What is still in use stays on the GPU, and is charged by itself from now on. */
    if (entry.bytes) ph_allocations_charge_apart(PH_ASYNC, (uintptr_t)pool);
    ph_release(entry.device, entry.bytes);
    return result;
}

CUresult ph_mem_pool_trim(const struct ph_call *call, CUmemoryPool pool, size_t keep) {
    CUresult result = PH_NEXT(call, cuMemPoolTrimTo)(pool, keep);
    ph_pool_follow(pool);
    return result;
}
