/* Every kind of device memory. Addresses are numbers; nothing is behind them. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

CUdeviceptr fk_address(uint64_t bytes) {
    static uint64_t next = 0x7000000000;
    return __atomic_fetch_add(&next, (bytes + (2u << 20) - 1) & ~(uint64_t)((2u << 20) - 1), __ATOMIC_SEQ_CST);
}

static CUresult take_block(CUdeviceptr *address, uint64_t bytes) {
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    if (!address || !bytes) return CUDA_ERROR_INVALID_VALUE;
    if (!fg_memory_take(fk_current->device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    struct fk_block *block = malloc(sizeof *block);
    *block = (struct fk_block){ fk_address(bytes), bytes, fk_current->device, NULL };
    *address = block->address;
    pthread_mutex_lock(&fk_mutex);
    block->next = fk_current->blocks;
    fk_current->blocks = block;
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}

static bool give_block(CUdeviceptr address) {
    if (!fk_current) return false;
    pthread_mutex_lock(&fk_mutex);
    struct fk_block **link = &fk_current->blocks;
    while (*link && (*link)->address != address) link = &(*link)->next;
    struct fk_block *block = *link;
    if (block) *link = block->next;
    pthread_mutex_unlock(&fk_mutex);
    if (block) fg_memory_give(block->device, block->bytes);
    free(block);
    return block != NULL;
}

CUresult fk_cuMemAlloc_v2(const struct fk_call *call, CUdeviceptr *dptr, size_t bytes) {
    (void)call;
    return take_block(dptr, bytes);
}
CUresult fk_cuMemAlloc(const struct fk_call *call, CUdeviceptr_v1 *dptr, unsigned int bytes) {
    (void)call;
    CUdeviceptr address = 0;
    CUresult result = take_block(&address, bytes);
    if (result == CUDA_SUCCESS) *dptr = (CUdeviceptr_v1)address;
    return result;
}
CUresult fk_cuMemAllocManaged(const struct fk_call *call, CUdeviceptr *dptr, size_t bytes, unsigned int flags) {
    (void)call;
    (void)flags;
    return take_block(dptr, bytes);
}
CUresult fk_cuMemAllocPitch_v2(const struct fk_call *call, CUdeviceptr *dptr, size_t *pitch, size_t width, size_t height,
                               unsigned int element) {
    (void)call;
    (void)element;
    *pitch = (width + 511) / 512 * 512;
    return take_block(dptr, *pitch * height);
}

/* Pools: reserve in steps of 32 MiB, keep what is free until a synchronisation finds it above the threshold. */
struct pool {
    int device;
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
    pool->next = pools;
    pools = pool;
    return pool;
}
static struct pool *pool_of(int device) {
    if (!default_pool[device]) default_pool[device] = new_pool(device);
    return default_pool[device];
}
static void shrink(struct pool *pool, uint64_t keep) {
    uint64_t wanted = (pool->used + STEP - 1) / STEP * STEP;
    if (wanted < keep) wanted = keep < pool->reserved ? keep : pool->reserved;
    if (pool->reserved > wanted) {
        fg_memory_give(pool->device, pool->reserved - wanted);
        pool->reserved = wanted;
    }
}
void fk_pools_settle(void) {
    pthread_mutex_lock(&fk_mutex);
    for (struct pool *pool = pools; pool; pool = pool->next) shrink(pool, pool->threshold);
    pthread_mutex_unlock(&fk_mutex);
}
static CUresult from_pool(struct pool *pool, CUdeviceptr *dptr, size_t bytes) {
    if (!dptr || !bytes) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fk_mutex);
    CUresult result = CUDA_SUCCESS;
    if (pool->used + bytes > pool->reserved) {
        uint64_t grow = (pool->used + bytes - pool->reserved + STEP - 1) / STEP * STEP;
        if (!fg_memory_take(pool->device, grow)) result = CUDA_ERROR_OUT_OF_MEMORY;
        else pool->reserved += grow;
    }
    if (result == CUDA_SUCCESS) {
        struct pooled *fresh = malloc(sizeof *fresh);
        *fresh = (struct pooled){ fk_address(bytes), bytes, pool, pooled };
        pooled = fresh;
        pool->used += bytes;
        *dptr = fresh->address;
    }
    pthread_mutex_unlock(&fk_mutex);
    return result;
}
static bool back_to_pool(CUdeviceptr address) {
    pthread_mutex_lock(&fk_mutex);
    struct pooled **link = &pooled;
    while (*link && (*link)->address != address) link = &(*link)->next;
    struct pooled *found = *link;
    if (found) {
        *link = found->next;
        found->pool->used -= found->bytes;
    }
    pthread_mutex_unlock(&fk_mutex);
    free(found);
    return found != NULL;
}
CUresult fk_cuMemAllocAsync(const struct fk_call *call, CUdeviceptr *dptr, size_t bytes, CUstream stream) {
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
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
CUresult fk_cuMemFreeAsync(const struct fk_call *call, CUdeviceptr dptr, CUstream stream) {
    (void)call;
    (void)stream;
    return back_to_pool(dptr) || give_block(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemFree_v2(const struct fk_call *call, CUdeviceptr dptr) {
    (void)call;
    return dptr == 0 || give_block(dptr) || back_to_pool(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemFree(const struct fk_call *call, CUdeviceptr_v1 dptr) {
    (void)call;
    return give_block(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemPoolCreate(const struct fk_call *call, CUmemoryPool *pool, const CUmemPoolProps *props) {
    (void)call;
    pthread_mutex_lock(&fk_mutex);
    *pool = (CUmemoryPool)new_pool(props->location.id);
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolDestroy(const struct fk_call *call, CUmemoryPool handle) {
    (void)call;
    struct pool *pool = (struct pool *)handle;
    pthread_mutex_lock(&fk_mutex);
    fg_memory_give(pool->device, pool->reserved);
    pool->reserved = pool->used = 0;
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolTrimTo(const struct fk_call *call, CUmemoryPool pool, size_t keep) {
    (void)call;
    pthread_mutex_lock(&fk_mutex);
    shrink((struct pool *)pool, keep);
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolGetAttribute(const struct fk_call *call, CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
    (void)call;
    struct pool *pool = (struct pool *)handle;
    pthread_mutex_lock(&fk_mutex);
    if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) *(cuuint64_t *)value = pool->reserved;
    else if (attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT) *(cuuint64_t *)value = pool->used;
    else *(cuuint64_t *)value = pool->threshold;
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemPoolSetAttribute(const struct fk_call *call, CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
    (void)call;
    if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) ((struct pool *)handle)->threshold = *(cuuint64_t *)value;
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetMemPool(const struct fk_call *call, CUmemoryPool *pool, CUdevice device) {
    (void)call;
    pthread_mutex_lock(&fk_mutex);
    *pool = (CUmemoryPool)pool_of(device);
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetDefaultMemPool(const struct fk_call *call, CUmemoryPool *pool, CUdevice device) {
    return fk_cuDeviceGetMemPool(call, pool, device);
}

/* Virtual memory management: memory is given back when handles and mappings are gone. */
struct physical {
    int device, references;
    uint64_t bytes;
};
struct mapping {
    CUdeviceptr address;
    uint64_t size;
    struct physical *memory;
    struct mapping *next;
};
static struct mapping *mappings;

static void unrefer(struct physical *memory) { /* with the mutex held */
    if (--memory->references > 0) return;
    fg_memory_give(memory->device, memory->bytes);
    free(memory);
}
CUresult fk_cuMemCreate(const struct fk_call *call, CUmemGenericAllocationHandle *handle, size_t size,
                        const CUmemAllocationProp *prop, unsigned long long flags) {
    (void)call;
    (void)flags;
    if (!fg_memory_take(prop->location.id, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    struct physical *memory = malloc(sizeof *memory);
    *memory = (struct physical){ prop->location.id, 1, size };
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)memory;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemRelease(const struct fk_call *call, CUmemGenericAllocationHandle handle) {
    (void)call;
    pthread_mutex_lock(&fk_mutex);
    unrefer((struct physical *)(uintptr_t)handle);
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemMap(const struct fk_call *call, CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                     unsigned long long flags) {
    (void)call;
    (void)offset;
    (void)flags;
    struct mapping *mapping = malloc(sizeof *mapping);
    pthread_mutex_lock(&fk_mutex);
    *mapping = (struct mapping){ ptr, size, (struct physical *)(uintptr_t)handle, mappings };
    mapping->memory->references++;
    mappings = mapping;
    pthread_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemUnmap(const struct fk_call *call, CUdeviceptr ptr, size_t size) {
    (void)call;
    pthread_mutex_lock(&fk_mutex);
    int found = 0;
    for (struct mapping **link = &mappings; *link;) {
        struct mapping *mapping = *link;
        if (mapping->address < ptr || mapping->address >= ptr + size) {
            link = &mapping->next;
            continue;
        }
        *link = mapping->next;
        unrefer(mapping->memory);
        free(mapping);
        found++;
    }
    pthread_mutex_unlock(&fk_mutex);
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemRetainAllocationHandle(const struct fk_call *call, CUmemGenericAllocationHandle *handle, void *address) {
    (void)call;
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fk_mutex);
    for (struct mapping *m = mappings; m; m = m->next)
        if (m->address == (CUdeviceptr)(uintptr_t)address) {
            m->memory->references++;
            *handle = (CUmemGenericAllocationHandle)(uintptr_t)m->memory;
            result = CUDA_SUCCESS;
        }
    pthread_mutex_unlock(&fk_mutex);
    return result;
}
CUresult fk_cuMemAddressReserve(const struct fk_call *call, CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr address,
                                unsigned long long flags) {
    (void)call;
    (void)alignment;
    (void)address;
    (void)flags;
    *ptr = fk_address(size);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemAddressFree(const struct fk_call *call, CUdeviceptr ptr, size_t size) {
    (void)call;
    (void)ptr;
    (void)size;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemSetAccess(const struct fk_call *call, CUdeviceptr ptr, size_t size, const CUmemAccessDesc *access, size_t count) {
    (void)call;
    (void)ptr;
    (void)size;
    (void)access;
    (void)count;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemGetAllocationGranularity(const struct fk_call *call, size_t *granularity, const CUmemAllocationProp *prop,
                                          CUmemAllocationGranularity_flags option) {
    (void)call;
    (void)prop;
    (void)option;
    *granularity = 2u << 20;
    return CUDA_SUCCESS;
}

/* Multicast: binding keeps the memory alive. */
CUresult fk_cuMulticastCreate(const struct fk_call *call, CUmemGenericAllocationHandle *handle, const CUmulticastObjectProp *prop) {
    (void)call;
    (void)prop;
    struct physical *object = calloc(1, sizeof *object);
    object->references = 1;
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)object;
    return CUDA_SUCCESS;
}
CUresult fk_cuMulticastBindMem(const struct fk_call *call, CUmemGenericAllocationHandle object, size_t offset,
                               CUmemGenericAllocationHandle memory, size_t memory_offset, size_t size, unsigned long long flags) {
    return fk_cuMemMap(call, object * 1000 + offset, size, memory_offset, memory, flags);
}
CUresult fk_cuMulticastUnbind(const struct fk_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                              size_t size) {
    (void)device;
    return fk_cuMemUnmap(call, object * 1000 + offset, size);
}

/* Arrays and imported memory */
static uint64_t pixels(size_t width, size_t height, size_t depth) {
    return (uint64_t)width * (height ? height : 1) * (depth ? depth : 1);
}
static unsigned int pixel_bytes(CUarray_format format, unsigned int channels) {
    unsigned int bytes = format == CU_AD_FORMAT_FLOAT || format == CU_AD_FORMAT_UNSIGNED_INT32 ? 4 : format == CU_AD_FORMAT_HALF ? 2 : 1;
    return bytes * (channels ? channels : 1);
}
CUresult fk_cuArrayCreate_v2(const struct fk_call *call, CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
    (void)call;
    CUdeviceptr address = 0;
    CUresult result = take_block(&address, pixels(d->Width, d->Height, 1) * pixel_bytes(d->Format, d->NumChannels));
    *array = (CUarray)(uintptr_t)address;
    return result;
}
CUresult fk_cuArray3DCreate_v2(const struct fk_call *call, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    (void)call;
    CUdeviceptr address = 0;
    CUresult result = take_block(&address, pixels(d->Width, d->Height, d->Depth) * pixel_bytes(d->Format, d->NumChannels));
    *array = (CUarray)(uintptr_t)address;
    return result;
}
CUresult fk_cuArrayDestroy(const struct fk_call *call, CUarray array) {
    (void)call;
    return give_block((CUdeviceptr)(uintptr_t)array) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult fk_cuMipmappedArrayCreate(const struct fk_call *call, CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
    (void)levels;
    return fk_cuArray3DCreate_v2(call, (CUarray *)array, d);
}
CUresult fk_cuMipmappedArrayDestroy(const struct fk_call *call, CUmipmappedArray array) {
    return fk_cuArrayDestroy(call, (CUarray)array);
}
CUresult fk_cuImportExternalMemory(const struct fk_call *call, CUexternalMemory *memory, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *d) {
    (void)call;
    CUdeviceptr address = 0;
    CUresult result = take_block(&address, d->size);
    *memory = (CUexternalMemory)(uintptr_t)address;
    return result;
}
CUresult fk_cuDestroyExternalMemory(const struct fk_call *call, CUexternalMemory memory) {
    (void)call;
    return give_block((CUdeviceptr)(uintptr_t)memory) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* Numbers */
CUresult fk_cuMemGetInfo_v2(const struct fk_call *call, size_t *free_bytes, size_t *total) {
    (void)call;
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t used = fg_memory_used(fk_current->device);
    if (free_bytes) *free_bytes = fg_settings()->memory_bytes - used;
    if (total) *total = fg_settings()->memory_bytes;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemGetInfo(const struct fk_call *call, unsigned int *free_bytes, unsigned int *total) {
    size_t f = 0, t = 0;
    CUresult result = fk_cuMemGetInfo_v2(call, &f, &t);
    *free_bytes = (unsigned int)(f > UINT32_MAX ? UINT32_MAX : f);
    *total = (unsigned int)(t > UINT32_MAX ? UINT32_MAX : t);
    return result;
}
