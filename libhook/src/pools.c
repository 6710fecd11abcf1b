/* Stream-ordered allocation. What counts is the memory a pool has reserved from the device, not the pointers
 * in it: pools keep memory after a free and grow in steps of their own. */
#define _GNU_SOURCE
#include "memory.h"
#include "streams.h"

#include <pthread.h>

enum { STEP_MOST = 32 << 20, STEP_LEAST = 2 << 20 }; /* what pools grow by: drivers were seen to take 32 MiB */
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

/* Returns what it holds, 0 if it does not tell. */
static uint64_t follow(CUmemoryPool pool) {
    uint64_t reserved;
    pthread_mutex_lock(&pool_mutex); /* question and booking in one piece, or an older answer could win */
    bool told = pool_holds(pool, &reserved, NULL);
    if (told) ph_ledger_resize(PH_POOL, (uintptr_t)pool, reserved);
    pthread_mutex_unlock(&pool_mutex);
    return told ? reserved : 0;
}

void ph_pools_refresh(void) {
    uint64_t keys[64];
    size_t count = ph_ledger_keys(PH_POOL, 0, UINT64_MAX, keys, 64);
    for (size_t i = 0; i < count; i++) follow((CUmemoryPool)(uintptr_t)keys[i]);
}

enum { OF_THE_HOST = -1 }; /* in the place of a GPU: memory that is none of a GPU's */

/* What a program did not make itself (a host's default pool, an imported one) tells where it is, from CUDA 13 on. */
static int place_of(CUmemoryPool pool) {
    int type = CU_MEM_LOCATION_TYPE_DEVICE, id = 0;
    if (!ph_driver.cuMemPoolGetAttribute ||
        ph_driver.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_LOCATION_TYPE, &type) != CUDA_SUCCESS ||
        ph_driver.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_LOCATION_ID, &id) != CUDA_SUCCESS) return ph_current_ordinal();
    return type == CU_MEM_LOCATION_TYPE_DEVICE ? ph_ordinal(id) : OF_THE_HOST;
}

static void meet(CUmemoryPool pool, int device) {
    pthread_mutex_lock(&pool_mutex);
    struct ph_entry entry = { .key = (uintptr_t)pool, .holding = PH_POOL, .device = device, .other = STEP_MOST };
    if (!ph_ledger_find(PH_POOL, (uintptr_t)pool, &entry)) ph_ledger_add(entry);
    pthread_mutex_unlock(&pool_mutex);
}

/* A pool's steps (in `other` of its entry) are learned from how it grows: reserving less would let it pass the limit. */
static void learn_step(const struct ph_entry *pool, uint64_t before, uint64_t after) {
    uint64_t step = pool->other;
    struct ph_entry now;
    if (after <= before || (after - before) % step == 0) return;
    while (step > STEP_LEAST && (after - before) % step != 0) step /= 2;
    pthread_mutex_lock(&pool_mutex);
    if (ph_ledger_take(PH_POOL, pool->key, &now)) {
        now.other = step;
        ph_ledger_add(now);
    }
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
    if (!ph_ledger_find(PH_POOL, (uintptr_t)r->pool, &pool)) meet(r->pool, place_of(r->pool));
    if (!ph_ledger_find(PH_POOL, (uintptr_t)r->pool, &pool)) return CUDA_ERROR_OUT_OF_MEMORY;
    if (pool.device == OF_THE_HOST) return ask_driver(r, from_pool);
    uint64_t reserved, used, bytes = ph_round_up(r->size, 512), size = bytes;
    bool readable = pool_holds(r->pool, &reserved, &used);
    bool grows = !readable || reserved - used < bytes;
    if (readable && grows) bytes = ph_round_up(used + bytes - reserved, pool.other);
    if (grows && !ph_reserve_or_refresh(pool.device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = ask_driver(r, from_pool);
    if (result == CUDA_SUCCESS)
        ph_ledger_add((struct ph_entry){ .key = *r->dptr, .holding = PH_ASYNC, .device = pool.device,
                                         .bytes = readable ? 0 : bytes, .size = size, .other = (uintptr_t)r->pool });
    if (readable) {
        uint64_t after = follow(r->pool);
        if (grows) ph_release(pool.device, bytes);
        if (grows) learn_step(&pool, reserved, after);
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
                 ph_driver.cuStreamGetCtx(stream, &context) == CUDA_SUCCESS && ph_driver.cuCtxPushCurrent_v2(context) == CUDA_SUCCESS;
    if (ph_driver.cuCtxGetDevice && ph_driver.cuCtxGetDevice(&device) == CUDA_SUCCESS && ph_driver.cuDeviceGetMemPool)
        ph_driver.cuDeviceGetMemPool(&pool, device);
    if (other) ph_driver.cuCtxPopCurrent_v2(&context);
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
    if (result != CUDA_SUCCESS || !pool || !props) return result;
    bool of_host = props->location.type != CU_MEM_LOCATION_TYPE_DEVICE && props->allocType == CU_MEM_ALLOCATION_TYPE_PINNED;
    meet(*pool, of_host ? OF_THE_HOST : props->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? ph_ordinal(props->location.id)
                                                                                          : ph_current_ordinal());
    return result;
}

CUresult ph_mem_pool_destroy(const struct ph_call *call, CUmemoryPool pool) {
    struct ph_entry entry;
    bool known = ph_ledger_take(PH_POOL, (uintptr_t)pool, &entry);
    CUresult result = PH_NEXT(call, cuMemPoolDestroy)(pool);
    if (known && result != CUDA_SUCCESS) ph_ledger_add(entry);
    if (!known || result != CUDA_SUCCESS) return result;
    /* What is still in use stays on the GPU, and is charged by itself from now on. */
    if (entry.bytes) ph_ledger_charge_apart(PH_ASYNC, (uintptr_t)pool);
    ph_release(entry.device, entry.bytes);
    return result;
}

CUresult ph_mem_pool_trim(const struct ph_call *call, CUmemoryPool pool, size_t keep) {
    CUresult result = PH_NEXT(call, cuMemPoolTrimTo)(pool, keep);
    follow(pool);
    return result;
}
