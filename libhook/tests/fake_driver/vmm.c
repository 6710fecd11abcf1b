/* Virtual memory management and multicast. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>

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
    if (!handle || !prop) return CUDA_ERROR_INVALID_VALUE;
    if (!fg_memory_take(fk_gpu_of(prop->location.id), size)) return CUDA_ERROR_OUT_OF_MEMORY;
    struct physical *memory = malloc(sizeof *memory);
    *memory = (struct physical){ fk_gpu_of(prop->location.id), 1, size };
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)memory;
    return CUDA_SUCCESS;
}
CUresult fk_cuMemRelease(const struct fk_call *call, CUmemGenericAllocationHandle handle) {
    (void)call;
    fg_mutex_lock(&fk_mutex);
    unrefer((struct physical *)(uintptr_t)handle);
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemMap(const struct fk_call *call, CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                     unsigned long long flags) {
    (void)call;
    (void)offset;
    (void)flags;
    struct mapping *mapping = malloc(sizeof *mapping);
    fg_mutex_lock(&fk_mutex);
    *mapping = (struct mapping){ ptr, size, (struct physical *)(uintptr_t)handle, mappings };
    mapping->memory->references++;
    mappings = mapping;
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}
CUresult fk_cuMemUnmap(const struct fk_call *call, CUdeviceptr ptr, size_t size) {
    (void)call;
    fg_mutex_lock(&fk_mutex);
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
    fg_mutex_unlock(&fk_mutex);
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemRetainAllocationHandle(const struct fk_call *call, CUmemGenericAllocationHandle *handle, void *address) {
    (void)call;
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    fg_mutex_lock(&fk_mutex);
    for (struct mapping *m = mappings; m; m = m->next)
        if (m->address == (CUdeviceptr)(uintptr_t)address) {
            m->memory->references++;
            *handle = (CUmemGenericAllocationHandle)(uintptr_t)m->memory;
            result = CUDA_SUCCESS;
        }
    fg_mutex_unlock(&fk_mutex);
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
CUresult fk_cuMulticastBindMem_v2(const struct fk_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                                  CUmemGenericAllocationHandle memory, size_t memory_offset, size_t size, unsigned long long flags) {
    (void)device;
    return fk_cuMemMap(call, object * 1000 + offset, size, memory_offset, memory, flags);
}
static struct physical *mapped_at(CUdeviceptr address) {
    struct physical *found = NULL;
    fg_mutex_lock(&fk_mutex);
    for (struct mapping *m = mappings; m && !found; m = m->next)
        if (m->address == address) found = m->memory;
    fg_mutex_unlock(&fk_mutex);
    return found;
}
CUresult fk_cuMulticastBindAddr(const struct fk_call *call, CUmemGenericAllocationHandle object, size_t offset, CUdeviceptr address,
                                size_t size, unsigned long long flags) {
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    /* Mappings of the range follow each other. */
    for (size_t at = 0; at < size;) {
        const struct physical *memory = mapped_at(address + at);
        if (!memory) return CUDA_ERROR_INVALID_VALUE;
        result = fk_cuMemMap(call, object * 1000 + offset + at, memory->bytes, 0, (CUmemGenericAllocationHandle)(uintptr_t)memory, flags);
        at += memory->bytes;
    }
    return result;
}
CUresult fk_cuMulticastBindAddr_v2(const struct fk_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                                   CUdeviceptr address, size_t size, unsigned long long flags) {
    (void)device;
    return fk_cuMulticastBindAddr(call, object, offset, address, size, flags);
}
CUresult fk_cuMulticastUnbind(const struct fk_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                              size_t size) {
    (void)device;
    return fk_cuMemUnmap(call, object * 1000 + offset, size);
}

/* Tiles of sparse arrays: mapped memory stays alive. A tile is named by its array and level. */
CUresult fk_cuMemMapArrayAsync(const struct fk_call *call, CUarrayMapInfo *list, unsigned int count, CUstream stream) {
    (void)stream;
    CUresult result = CUDA_SUCCESS;
    for (unsigned int i = 0; i < count && result == CUDA_SUCCESS; i++) {
        CUdeviceptr tile = (CUdeviceptr)(uintptr_t)list[i].resource.array * 1000 + list[i].subresource.sparseLevel.level;
        if (list[i].memOperationType == CU_MEM_OPERATION_TYPE_MAP) result = fk_cuMemMap(call, tile, 1, 0, list[i].memHandle.memHandle, 0);
        else result = fk_cuMemUnmap(call, tile, 1);
    }
    return result;
}
