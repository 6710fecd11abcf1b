/* Linear memory, arrays, contexts, imported memory. Each hook: reserve, call the driver, book or give back.
 * On freeing, the entry leaves the table before the driver is called, because another thread may be given
 * the same address at once; its bytes are released after, because only then is the room really free. */
#define _GNU_SOURCE
#include "account.h"
#include "attach.h"
#include "reconcile.h"
#include "device.h"
#include "hooks.h"
#include "allocations.h"
#include "pool_sizes.h"

static void book(enum ph_holding holding, uint64_t key, int device, uint64_t bytes) {
    ph_allocations_add((struct ph_entry){
        .key = key, .holding = holding, .device = device, .bytes = bytes, .other = (uint64_t)(uintptr_t)ph_current_context() });
}

/* The common end of an allocation: what was reserved is booked under the new key or given back. */
static CUresult settle(CUresult result, enum ph_holding holding, uint64_t key, int device, uint64_t bytes) {
    if (result == CUDA_SUCCESS) book(holding, key, device, bytes);
    else ph_release(device, bytes);
    return result;
}

static void put_back_or_release(CUresult result, const struct ph_entry *entry) {
    if (result == CUDA_SUCCESS) ph_release(entry->device, entry->bytes);
    else ph_allocations_add(*entry);
}

CUresult ph_mem_alloc(const struct ph_call *call, CUdeviceptr *dptr, size_t size) {
    ph_attach();
    int device = ph_current_ordinal();
    uint64_t bytes = ph_round_up(size, 512);
    if (!dptr || !size) return PH_NEXT(call, cuMemAlloc_v2)(dptr, size);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMemAlloc_v2)(dptr, size);
    return settle(result, PH_LINEAR, result == CUDA_SUCCESS ? *dptr : 0, device, bytes);
}

CUresult ph_mem_alloc_v1(const struct ph_call *call, CUdeviceptr_v1 *dptr, unsigned int size) {
    ph_attach();
    int device = ph_current_ordinal();
    uint64_t bytes = ph_round_up(size, 512);
    if (!dptr || !size) return PH_NEXT(call, cuMemAlloc)(dptr, size);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMemAlloc)(dptr, size);
    return settle(result, PH_LINEAR, result == CUDA_SUCCESS ? *dptr : 0, device, bytes);
}

CUresult ph_mem_alloc_managed(const struct ph_call *call, CUdeviceptr *dptr, size_t size, unsigned int flags) {
    ph_attach();
    int device = ph_current_ordinal();
    uint64_t bytes = ph_round_up(size, 512);
    if (!dptr || !size) return PH_NEXT(call, cuMemAllocManaged)(dptr, size, flags);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMemAllocManaged)(dptr, size, flags);
    return settle(result, PH_LINEAR, result == CUDA_SUCCESS ? *dptr : 0, device, bytes);
}

/* The pitch is the driver's choice: reserve for rows of whole 512 bytes, book what it chose. */
CUresult ph_mem_alloc_pitch(const struct ph_call *call, CUdeviceptr *dptr, size_t *pitch, size_t width, size_t height,
                            unsigned int element) {
    ph_attach();
    int device = ph_current_ordinal();
    uint64_t row = ph_round_up(width, 512), bytes;
    if (!dptr || !pitch || !width || !height || __builtin_mul_overflow(row, (uint64_t)height, &bytes))
        return PH_NEXT(call, cuMemAllocPitch_v2)(dptr, pitch, width, height, element);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMemAllocPitch_v2)(dptr, pitch, width, height, element);
    settle(result, PH_LINEAR, result == CUDA_SUCCESS ? *dptr : 0, device, bytes);
    if (result == CUDA_SUCCESS) ph_allocations_resize(PH_LINEAR, *dptr, ph_round_up((uint64_t)*pitch * height, 512));
    return result;
}

CUresult ph_mem_alloc_pitch_v1(const struct ph_call *call, CUdeviceptr_v1 *dptr, unsigned int *pitch, unsigned int width,
                               unsigned int height, unsigned int element) {
    ph_attach();
    int device = ph_current_ordinal();
    uint64_t bytes = ph_round_up(width, 512) * height;
    if (!dptr || !pitch || !width || !height) return PH_NEXT(call, cuMemAllocPitch)(dptr, pitch, width, height, element);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMemAllocPitch)(dptr, pitch, width, height, element);
    settle(result, PH_LINEAR, result == CUDA_SUCCESS ? *dptr : 0, device, bytes);
    if (result == CUDA_SUCCESS) ph_allocations_resize(PH_LINEAR, *dptr, ph_round_up((uint64_t)*pitch * height, 512));
    return result;
}

CUresult ph_mem_free(const struct ph_call *call, CUdeviceptr dptr) {
    struct ph_entry entry;
    bool pooled = false, known = ph_allocations_take(PH_LINEAR, dptr, &entry);
    if (!known) known = pooled = ph_allocations_take(PH_ASYNC, dptr, &entry);
    CUresult result = PH_NEXT(call, cuMemFree_v2)(dptr);
    if (known) put_back_or_release(result, &entry);
    if (pooled) ph_pools_refresh();
    return result;
}

CUresult ph_mem_free_v1(const struct ph_call *call, CUdeviceptr_v1 dptr) {
    struct ph_entry entry;
    bool known = ph_allocations_take(PH_LINEAR, dptr, &entry);
    CUresult result = PH_NEXT(call, cuMemFree)(dptr);
    if (known) put_back_or_release(result, &entry);
    return result;
}

/* Arrays */

static uint64_t format_bits(CUarray_format format) {
    switch ((unsigned int)format) {
    case CU_AD_FORMAT_UNSIGNED_INT8: case CU_AD_FORMAT_SIGNED_INT8: return 8;
    case CU_AD_FORMAT_UNSIGNED_INT16: case CU_AD_FORMAT_SIGNED_INT16: case CU_AD_FORMAT_HALF: return 16;
    case CU_AD_FORMAT_UNSIGNED_INT32: case CU_AD_FORMAT_SIGNED_INT32: case CU_AD_FORMAT_FLOAT: return 32;
    case CU_AD_FORMAT_NV12: return 12;
    case CU_AD_FORMAT_BC1_UNORM: case CU_AD_FORMAT_BC1_UNORM_SRGB:
    case CU_AD_FORMAT_BC4_UNORM: case CU_AD_FORMAT_BC4_SNORM: return 4;
    case CU_AD_FORMAT_BC2_UNORM: case CU_AD_FORMAT_BC2_UNORM_SRGB: case CU_AD_FORMAT_BC3_UNORM:
    case CU_AD_FORMAT_BC3_UNORM_SRGB: case CU_AD_FORMAT_BC5_UNORM: case CU_AD_FORMAT_BC5_SNORM:
    case CU_AD_FORMAT_BC6H_UF16: case CU_AD_FORMAT_BC6H_SF16: case CU_AD_FORMAT_BC7_UNORM:
    case CU_AD_FORMAT_BC7_UNORM_SRGB: return 8;
    default: return 32; /* the widest format per channel; newer packed and video formats are narrower */
    }
}

/* Bytes of one level: the driver tiles arrays, so each is rounded to 64 KiB blocks as its sparse tiles are. */
static uint64_t level_bytes(uint64_t width, uint64_t height, uint64_t depth, CUarray_format format, uint64_t channels) {
    bool whole_pixel = format_bits(format) < 8 || (unsigned int)format >= 0x91; /* block formats count all channels */
    double bits = (double)width * (double)(height ? height : 1) * (double)(depth ? depth : 1) *
                  (double)format_bits(format) * (double)(whole_pixel || !channels ? 1 : channels);
    return bits > 8e18 ? UINT64_MAX >> 1 : ph_round_up((uint64_t)(bits / 8), 65536);
}

CUresult ph_array_create(const struct ph_call *call, CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
    ph_attach();
    if (!array || !d) return PH_NEXT(call, cuArrayCreate_v2)(array, d);
    int device = ph_current_ordinal();
    uint64_t bytes = level_bytes(d->Width, d->Height, 1, d->Format, d->NumChannels);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuArrayCreate_v2)(array, d);
    return settle(result, PH_ARRAY, result == CUDA_SUCCESS ? (uintptr_t)*array : 0, device, bytes);
}

CUresult ph_array_create_v1(const struct ph_call *call, CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *d) {
    ph_attach();
    if (!array || !d) return PH_NEXT(call, cuArrayCreate)(array, d);
    int device = ph_current_ordinal();
    uint64_t bytes = level_bytes(d->Width, d->Height, 1, d->Format, d->NumChannels);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuArrayCreate)(array, d);
    return settle(result, PH_ARRAY, result == CUDA_SUCCESS ? (uintptr_t)*array : 0, device, bytes);
}

/* Sparse and deferred arrays own no memory; what is mapped into them was made by cuMemCreate. */
static uint64_t array_3d_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
    if (d->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)) return 0;
    uint64_t width = d->Width, height = d->Height, depth = d->Depth, sum = 0;
    bool layered = (d->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
    for (unsigned int level = 0; level < (levels ? levels : 1) && level < 32; level++) {
        uint64_t bytes = level_bytes(width, height, depth, d->Format, d->NumChannels);
        sum = sum + bytes < sum ? UINT64_MAX >> 1 : sum + bytes;
        width = width > 1 ? width / 2 : width;
        height = height > 1 ? height / 2 : height;
        if (!layered) depth = depth > 1 ? depth / 2 : depth;
    }
    return sum;
}

CUresult ph_array_3d_create(const struct ph_call *call, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    ph_attach();
    if (!array || !d) return PH_NEXT(call, cuArray3DCreate_v2)(array, d);
    int device = ph_current_ordinal();
    uint64_t bytes = array_3d_bytes(d, 1);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuArray3DCreate_v2)(array, d);
    return settle(result, PH_ARRAY, result == CUDA_SUCCESS ? (uintptr_t)*array : 0, device, bytes);
}

CUresult ph_array_3d_create_v1(const struct ph_call *call, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *d) {
    ph_attach();
    if (!array || !d) return PH_NEXT(call, cuArray3DCreate)(array, d);
    int device = ph_current_ordinal();
    uint64_t bytes = level_bytes(d->Width, d->Height, d->Depth, d->Format, d->NumChannels);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuArray3DCreate)(array, d);
    return settle(result, PH_ARRAY, result == CUDA_SUCCESS ? (uintptr_t)*array : 0, device, bytes);
}

CUresult ph_mipmap_create(const struct ph_call *call, CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *d,
                          unsigned int levels) {
    ph_attach();
    if (!array || !d) return PH_NEXT(call, cuMipmappedArrayCreate)(array, d, levels);
    int device = ph_current_ordinal();
    uint64_t bytes = array_3d_bytes(d, levels);
    if (!ph_reserve_or_reconcile(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMipmappedArrayCreate)(array, d, levels);
    return settle(result, PH_ARRAY, result == CUDA_SUCCESS ? (uintptr_t)*array : 0, device, bytes);
}

CUresult ph_array_destroy(const struct ph_call *call, CUarray array) {
    struct ph_entry entry;
    bool known = ph_allocations_take(PH_ARRAY, (uintptr_t)array, &entry);
    CUresult result = PH_NEXT(call, cuArrayDestroy)(array);
    if (known) put_back_or_release(result, &entry);
    return result;
}

CUresult ph_mipmap_destroy(const struct ph_call *call, CUmipmappedArray array) {
    struct ph_entry entry;
    bool known = ph_allocations_take(PH_ARRAY, (uintptr_t)array, &entry);
    CUresult result = PH_NEXT(call, cuMipmappedArrayDestroy)(array);
    if (known) put_back_or_release(result, &entry);
    return result;
}

/* Memory made by another API (Vulkan, D3D) and imported is device memory of this container all the same. CUDA's
 * own shared memory (cuIpc*, cuMemImport*) is not charged here: the process that made it pays. */
CUresult ph_import_external(const struct ph_call *call, CUexternalMemory *memory, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *d) {
    ph_attach();
    if (!memory || !d) return PH_NEXT(call, cuImportExternalMemory)(memory, d);
    int device = ph_current_ordinal();
    if (!ph_reserve_or_reconcile(device, d->size)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuImportExternalMemory)(memory, d);
    return settle(result, PH_EXTERNAL, result == CUDA_SUCCESS ? (uintptr_t)*memory : 0, device, d->size);
}

CUresult ph_destroy_external(const struct ph_call *call, CUexternalMemory memory) {
    struct ph_entry entry;
    bool known = ph_allocations_take(PH_EXTERNAL, (uintptr_t)memory, &entry);
    CUresult result = PH_NEXT(call, cuDestroyExternalMemory)(memory);
    if (known) put_back_or_release(result, &entry);
    return result;
}
