/* Stream-ordered allocation. What counts is the memory a pool has reserved from the device, not the pointers
 * in it: pools keep memory after a free and grow in steps of their own. */
#define _GNU_SOURCE
#include "log.h"
#include "memory.h"

#include <pthread.h>

static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;

void ph_pools_after_fork(void) { pthread_mutex_init(&pool_mutex, NULL); }

static bool pool_holds(CUmemoryPool pool, uint64_t *reserved, uint64_t *used) {
    cuuint64_t value = 0;
    if (!ph_driver.cuMemPoolGetAttribute ||
        ph_driver.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &value) != CUDA_SUCCESS) return false;
    *reserved = value;
    if (used) {
        if (ph_driver.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value) != CUDA_SUCCESS) return false;
        *used = value;
    }
    return true;
}

static void follow(CUmemoryPool pool) {
    uint64_t reserved;
    pthread_mutex_lock(&pool_mutex); /* question and booking in one piece, or an older answer could win */
    if (pool_holds(pool, &reserved, NULL)) ph_ledger_resize(PH_POOL, (uintptr_t)pool, reserved);
    pthread_mutex_unlock(&pool_mutex);
}

void ph_pools_refresh(void) {
    uint64_t keys[64];
    size_t count = ph_ledger_keys(PH_POOL, 0, UINT64_MAX, keys, 64);
    for (size_t i = 0; i < count; i++) follow((CUmemoryPool)(uintptr_t)keys[i]);
}

static void know(CUmemoryPool pool, int device) {
    struct ph_entry entry;
    pthread_mutex_lock(&pool_mutex);
    if (!ph_ledger_find(PH_POOL, (uintptr_t)pool, &entry))
        ph_ledger_add((struct ph_entry){ .key = (uintptr_t)pool, .holding = PH_POOL, .device = device });
    pthread_mutex_unlock(&pool_mutex);
}

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
    know(r->pool, ph_current_ordinal());
    if (!ph_ledger_find(PH_POOL, (uintptr_t)r->pool, &pool)) return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t reserved, used, bytes = ph_round_up(r->size, 512);
    bool readable = pool_holds(r->pool, &reserved, &used);
    bool grows = !readable || reserved - used < bytes;
    if (grows && !ph_reserve_or_refresh(pool.device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = ask_driver(r, from_pool);
    if (result == CUDA_SUCCESS)
        ph_ledger_add((struct ph_entry){ .key = *r->dptr, .holding = PH_ASYNC, .device = pool.device,
                                         .bytes = readable ? 0 : bytes, .other = (uintptr_t)r->pool });
    if (readable) {
        follow(r->pool);
        if (grows) ph_release(pool.device, bytes);
    } else if (result != CUDA_SUCCESS) {
        ph_release(pool.device, bytes);
    }
    return result;
}

static CUmemoryPool current_pool(void) {
    CUmemoryPool pool = NULL;
    CUdevice device = 0;
    if (ph_driver.cuCtxGetDevice && ph_driver.cuCtxGetDevice(&device) == CUDA_SUCCESS && ph_driver.cuDeviceGetMemPool)
        ph_driver.cuDeviceGetMemPool(&pool, device);
    return pool;
}

CUresult ph_mem_alloc_async(const struct ph_call *call, CUdeviceptr *dptr, size_t size, CUstream stream) {
    return allocate(&(struct request){ call, dptr, size, current_pool(), stream }, false);
}

CUresult ph_mem_alloc_from_pool(const struct ph_call *call, CUdeviceptr *dptr, size_t size, CUmemoryPool pool, CUstream stream) {
    return allocate(&(struct request){ call, dptr, size, pool, stream }, true);
}

CUresult ph_mem_free_async(const struct ph_call *call, CUdeviceptr dptr, CUstream stream) {
    struct ph_entry entry;
    enum ph_holding holding = PH_ASYNC;
    bool known = ph_ledger_take(PH_ASYNC, dptr, &entry) ||
                 (holding = PH_LINEAR, ph_ledger_take(PH_LINEAR, dptr, &entry));
    CUresult result = PH_NEXT(call, cuMemFreeAsync)(dptr, stream);
    if (known && result == CUDA_SUCCESS) ph_release(entry.device, entry.bytes);
    else if (known) ph_ledger_add(entry);
    if (known && holding == PH_ASYNC) follow((CUmemoryPool)(uintptr_t)entry.other);
    return result;
}

CUresult ph_mem_pool_create(const struct ph_call *call, CUmemoryPool *pool, const CUmemPoolProps *props) {
    ph_attach();
    CUresult result = PH_NEXT(call, cuMemPoolCreate)(pool, props);
    if (result == CUDA_SUCCESS && pool && props && props->location.type == CU_MEM_LOCATION_TYPE_DEVICE)
        know(*pool, ph_ordinal(props->location.id));
    return result;
}

CUresult ph_mem_pool_destroy(const struct ph_call *call, CUmemoryPool pool) {
    struct ph_entry entry;
    bool known = ph_ledger_take(PH_POOL, (uintptr_t)pool, &entry);
    CUresult result = PH_NEXT(call, cuMemPoolDestroy)(pool);
    if (known && result == CUDA_SUCCESS) ph_release(entry.device, entry.bytes);
    else if (known) ph_ledger_add(entry);
    return result;
}

CUresult ph_mem_pool_trim(const struct ph_call *call, CUmemoryPool pool, size_t keep) {
    CUresult result = PH_NEXT(call, cuMemPoolTrimTo)(pool, keep);
    follow(pool);
    return result;
}
