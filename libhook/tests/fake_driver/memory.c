/* Linear memory, arrays, imported memory. Addresses are numbers; nothing is behind them. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

CUdeviceptr fk_address(uint64_t bytes) {
    static uint64_t next = 0x7000000000;
    return __atomic_fetch_add(&next, (bytes + (2u << 20) - 1) & ~(uint64_t)((2u << 20) - 1), __ATOMIC_SEQ_CST);
}

static CUdeviceptr low_address(uint64_t bytes) { /* for the first ABI, whose pointers have 32 bits */
    static uint64_t next = 0x10000000;
    return __atomic_fetch_add(&next, (bytes + 511) / 512 * 512, __ATOMIC_SEQ_CST);
}

static CUresult take_block_at(CUdeviceptr *address, uint64_t bytes, CUdeviceptr (*place)(uint64_t)) {
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    if (!address || !bytes) return CUDA_ERROR_INVALID_VALUE;
    if (!fg_memory_take(fk_current->device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    struct fk_block *block = malloc(sizeof *block);
    *block = (struct fk_block){ place(bytes), bytes, fk_current->device, NULL };
    *address = block->address;
    fg_mutex_lock(&fk_mutex);
    block->next = fk_current->blocks;
    fk_current->blocks = block;
    fg_mutex_unlock(&fk_mutex);
    return CUDA_SUCCESS;
}

static CUresult take_block(CUdeviceptr *address, uint64_t bytes) { return take_block_at(address, bytes, fk_address); }

static bool give_block(CUdeviceptr address) {
    if (!fk_current) return false;
    fg_mutex_lock(&fk_mutex);
    struct fk_block **link = &fk_current->blocks;
    while (*link && (*link)->address != address) link = &(*link)->next;
    struct fk_block *block = *link;
    if (block) *link = block->next;
    fg_mutex_unlock(&fk_mutex);
    if (block) fg_memory_give(block->device, block->bytes);
    free(block);
    return block != NULL;
}

CUresult fk_cuMemAlloc_v2(const struct fk_call *call, CUdeviceptr *dptr, size_t bytes) {
    (void)call;
    return take_block(dptr, bytes);
}

/* One table, as undocumented as the real driver's: its size, and a way to allocate that no export knows. */
static CUresult take_by_table(CUdeviceptr *dptr, size_t bytes) { return take_block(dptr, bytes); }
CUresult fk_cuGetExportTable(const struct fk_call *call, const void **table, const CUuuid *id) {
    static const struct {
        size_t size;
        CUresult (*allocate)(CUdeviceptr *, size_t);
    } only = { sizeof only, take_by_table };
    (void)call;
    if (!table || !id || strcmp(id->bytes, "fake table") != 0) return CUDA_ERROR_INVALID_VALUE;
    *table = &only;
    return CUDA_SUCCESS;
}
/* What a driver of some later release may have: an export that no table lists. */
CUresult cuMemAllocTomorrow(CUdeviceptr *dptr, size_t bytes);
CUresult cuMemAllocTomorrow(CUdeviceptr *dptr, size_t bytes) { return take_block(dptr, bytes); }
CUresult fk_cuMemAlloc(const struct fk_call *call, CUdeviceptr_v1 *dptr, unsigned int bytes) {
    (void)call;
    CUdeviceptr address = 0;
    CUresult result = take_block_at(&address, bytes, low_address);
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

CUresult fk_cuMemAllocPitch(const struct fk_call *call, CUdeviceptr_v1 *dptr, unsigned int *pitch, unsigned int width,
                            unsigned int height, unsigned int element) {
    (void)call;
    (void)element;
    CUdeviceptr address = 0;
    *pitch = (width + 511) / 512 * 512;
    CUresult result = take_block_at(&address, (uint64_t)*pitch * height, low_address);
    if (result == CUDA_SUCCESS) *dptr = (CUdeviceptr_v1)address;
    return result;
}

CUresult fk_cuMemFreeAsync(const struct fk_call *call, CUdeviceptr dptr, CUstream stream) {
    (void)call;
    (void)stream;
    return fk_back_to_pool(dptr) || give_block(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemFree_v2(const struct fk_call *call, CUdeviceptr dptr) {
    (void)call;
    return dptr == 0 || give_block(dptr) || fk_back_to_pool(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult fk_cuMemFree(const struct fk_call *call, CUdeviceptr_v1 dptr) {
    (void)call;
    return give_block(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
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
    if (!array || !d) return CUDA_ERROR_INVALID_VALUE;
    CUdeviceptr address = 0;
    CUresult result = take_block(&address, pixels(d->Width, d->Height, 1) * pixel_bytes(d->Format, d->NumChannels));
    *array = (CUarray)(uintptr_t)address;
    return result;
}
CUresult fk_cuArrayCreate(const struct fk_call *call, CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *d) {
    if (!d) return CUDA_ERROR_INVALID_VALUE;
    return fk_cuArrayCreate_v2(call, array, &(CUDA_ARRAY_DESCRIPTOR){ d->Width, d->Height, d->Format, d->NumChannels });
}
CUresult fk_cuArray3DCreate_v2(const struct fk_call *call, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    (void)call;
    if (!array || !d) return CUDA_ERROR_INVALID_VALUE;
    static uintptr_t sparse = 0x5000000000; /* owns no memory: an address that no block has */
    CUdeviceptr address = 0;
    if (d->Flags & CUDA_ARRAY3D_SPARSE) {
        *array = (CUarray)__atomic_add_fetch(&sparse, 4096, __ATOMIC_RELAXED);
        return CUDA_SUCCESS;
    }
    CUresult result = take_block(&address, pixels(d->Width, d->Height, d->Depth) * pixel_bytes(d->Format, d->NumChannels));
    *array = (CUarray)(uintptr_t)address;
    return result;
}
CUresult fk_cuArray3DCreate(const struct fk_call *call, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *d) {
    if (!d) return CUDA_ERROR_INVALID_VALUE;
    const CUDA_ARRAY3D_DESCRIPTOR wide = { d->Width, d->Height, d->Depth, d->Format, d->NumChannels, d->Flags };
    return fk_cuArray3DCreate_v2(call, array, &wide);
}
CUresult fk_cuArrayDestroy(const struct fk_call *call, CUarray array) {
    (void)call;
    bool sparse = (uintptr_t)array < 0x6000000000;
    return sparse || give_block((CUdeviceptr)(uintptr_t)array) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
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
    if (!memory || !d) return CUDA_ERROR_INVALID_VALUE;
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
