/* Stream-ordered memory. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>

/* Pools: reserve in steps of 32 MiB, keep what is free until a synchronisation finds it above the threshold. */
struct pool {
    int device;
    CUmemLocation location;
    bool destroyed; /* holds what is in use until that is freed */
    uint64_t reserved, used, threshold;
    struct pool *next;
};
static struct pool *pools, *default_pool[FG_DEVICES];
struct pooled {
    CUdeviceptr address;
    uint64_t bytes;
    struct pool *pool;
    struct pooled *next;
};
static struct pooled *pooled;
static const uint64_t STEP = 32u << 20;

static struct pool *new_pool(int device) {
    struct pool *pool = calloc(1, sizeof *pool);
    pool->device = device;
    pool->location = (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device };
    pool->next = pools;
    pools = pool;
    return pool;
}
static struct pool *pool_of(int device) {
    if (!default_pool[device]) default_pool[device] = new_pool(device);
    return default_pool[device];
}
static bool on_gpu(const struct pool *pool) { return pool->location.type == CU_MEM_LOCATION_TYPE_DEVICE; }
static bool take(const struct pool *pool, uint64_t bytes) { return !on_gpu(pool) || fg_memory_take(pool->device, bytes); }
static void give(const struct pool *pool, uint64_t bytes) {
    if (on_gpu(pool)) fg_memory_give(pool->device, bytes);
}
static void shrink(struct pool *pool, uint64_t keep) {
    uint64_t wanted = (pool->used + STEP - 1) / STEP * STEP;
    if (wanted < keep) wanted = keep < pool->reserved ? keep : pool->reserved;
    if (pool->reserved > wanted) {
        give(pool, pool->reserved - wanted);
        pool->reserved = wanted;
    }
}
void fk_pools_settle(void) {
    fg_mutex_lock(&fk_mutex);
    for (struct pool *pool = pools; pool; pool = pool->next) shrink(pool, pool->threshold);
    fg_mutex_unlock(&fk_mutex);
}
static CUresult from_pool(struct pool *pool, CUdeviceptr *dptr, size_t bytes) {
    if (!dptr || !bytes) return CUDA_ERROR_INVALID_VALUE;
    fg_mutex_lock(&fk_mutex);
    CUresult result = CUDA_SUCCESS;
    if (pool->used + bytes > pool->reserved) {
        uint64_t grow = (pool->used + bytes - pool->reserved + STEP - 1) / STEP * STEP;
        if (!take(pool, grow)) result = CUDA_ERROR_OUT_OF_MEMORY;
        else pool->reserved += grow;
    }
    if (result == CUDA_SUCCESS) {
        struct pooled *fresh = malloc(sizeof *fresh);
        *fresh = (struct pooled){ fk_address(bytes), bytes, pool, pooled };
        pooled = fresh;
        pool->used += bytes;
        *dptr = fresh->address;
    }
    fg_mutex_unlock(&fk_mutex);
    return result;
}
bool fk_back_to_pool(CUdeviceptr address) {
    fg_mutex_lock(&fk_mutex);
    struct pooled **link = &pooled;
    while (*link && (*link)->address != address) link = &(*link)->next;
    struct pooled *found = *link;
    if (found) {
        *link = found->next;
        found->pool->used -= found->bytes;
        if (found->pool->destroyed) shrink(found->pool, 0);
    }
    fg_mutex_unlock(&fk_mutex);
    free(found);
    return found != NULL;
}
CUresult fk_cuMemAllocAsync(const struct fk_call *call, CUdeviceptr *dptr, size_t bytes, CUstream stream) {
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    if (!dptr) return CUDA_ERROR_INVALID_VALUE;
    struct fk_stream *on = fk_stream_of(stream, call->per_thread);
    if (on->capture) {
        *dptr = fk_address(bytes);
        return fk_pool_stream_alloc(on, bytes) ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
    }
    return from_pool(pool_of(fk_current->device), dptr, bytes);
}
CUresult fk_cuMemAllocFromPoolAsync(const struct fk_call *call, CUdeviceptr *dptr, size_t bytes, CUmemoryPool pool, CUstream stream) {
    (void)call;
    (void)stream;
    return from_pool((struct pool *)pool, dptr, bytes);
}
CUresult fk_cuMemPoolCreate(const struct fk_call *call, CUmemoryPool *pool, const CUmemPoolProps *props) {
    (void)call;
    fg_mutex_lock(&fk_mutex);
    struct pool *fresh = new_pool(props->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? fk_gpu_of(props->location.id) : 0);
    fresh->location = props->location;
    *pool = (CUmemoryPool)fresh;
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolDestroy(const struct fk_call *call, CUmemoryPool handle) {
    (void)call;
    struct pool *pool = (struct pool *)handle;
    fg_mutex_lock(&fk_mutex);
    pool->destroyed = true;
    shrink(pool, 0);
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolTrimTo(const struct fk_call *call, CUmemoryPool pool, size_t keep) {
    (void)call;
    fg_mutex_lock(&fk_mutex);
    shrink((struct pool *)pool, keep);
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolGetAttribute(const struct fk_call *call, CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
    (void)call;
    struct pool *pool = (struct pool *)handle;
    fg_mutex_lock(&fk_mutex);
    if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) *(cuuint64_t *)value = pool->reserved;
    else if (attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT) *(cuuint64_t *)value = pool->used;
    else if (attribute == CU_MEMPOOL_ATTR_LOCATION_TYPE) *(int *)value = (int)pool->location.type;
    else if (attribute == CU_MEMPOOL_ATTR_LOCATION_ID) *(int *)value = pool->location.id;
    else if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) *(cuuint64_t *)value = pool->threshold;
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolSetAttribute(const struct fk_call *call, CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
    (void)call;
    if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) ((struct pool *)handle)->threshold = *(cuuint64_t *)value;
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetMemPool(const struct fk_call *call, CUmemoryPool *pool, CUdevice device) {
    (void)call;
    fg_mutex_lock(&fk_mutex);
    *pool = (CUmemoryPool)pool_of(fk_gpu_of(device));
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetDefaultMemPool(const struct fk_call *call, CUmemoryPool *pool, CUdevice device) {
    return fk_cuDeviceGetMemPool(call, pool, device);
}
