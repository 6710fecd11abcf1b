#define _GNU_SOURCE
#include "vmm.h"

#include "account.h"
#include "attach.h"
#include "reconcile.h"
#include "device.h"
#include "hooks.h"
#include "allocations.h"
#include "locks.h"

#include <stdlib.h>

enum { AT_ONCE = 256 }; /* mappings undone by one cuMemUnmap that we follow; more are found in further rounds */

/* Held around the driver's calls that map and bind: what is booked under an address must be what is mapped there, even
 * for threads that unmap and map it at once. */
static struct ph_mutex mapping_mutex = PH_MUTEX(MAPPING);

void ph_vmm_after_fork(void) { ph_mutex_after_fork(&mapping_mutex); }

CUresult ph_mem_create(const struct ph_call *call, CUmemGenericAllocationHandle *handle, size_t size,
                       const CUmemAllocationProp *prop, unsigned long long flags) {
    ph_attach();
    bool on_device = handle && prop && prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (!on_device) return PH_NEXT(call, cuMemCreate)(handle, size, prop, flags);
    int device = ph_ordinal(prop->location.id);
    if (!ph_reserve_or_reconcile(device, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = PH_NEXT(call, cuMemCreate)(handle, size, prop, flags);
    if (result != CUDA_SUCCESS) ph_release(device, size);
    else
        ph_allocations_add((struct ph_entry){ .key = *handle, .holding = PH_PHYSICAL, .device = device, .bytes = size, .references = 1 });
    return result;
}

/* Drops one reference around a driver call: `gone` comes back if the call fails. */
static void undo_or_release(CUresult result, bool last, struct ph_entry *gone, uint64_t handle) {
    if (last && result == CUDA_SUCCESS) ph_release(gone->device, gone->bytes);
    else if (last) {
        gone->references = 1;
        ph_allocations_add(*gone);
    } else if (result != CUDA_SUCCESS) {
        ph_allocations_refer(handle);
    }
}

CUresult ph_mem_release(const struct ph_call *call, CUmemGenericAllocationHandle handle) {
    struct ph_entry gone;
    bool last = ph_allocations_unrefer(handle, &gone);
    CUresult result = PH_NEXT(call, cuMemRelease)(handle);
    undo_or_release(result, last, &gone, handle);
    return result;
}

CUresult ph_mem_retain(const struct ph_call *call, CUmemGenericAllocationHandle *handle, void *address) {
    CUresult result = PH_NEXT(call, cuMemRetainAllocationHandle)(handle, address);
    if (result != CUDA_SUCCESS || !handle) return result;
    struct ph_entry mapping;
    /* The driver may name the same memory by another handle: the mapping knows ours. */
    if (!ph_allocations_refer(*handle) && ph_allocations_find(PH_MAPPING, (uintptr_t)address, &mapping)) ph_allocations_refer(mapping.other);
    return result;
}

/* One mapping or binding less. */
static void let_go(enum ph_holding holding, uint64_t key) {
    struct ph_entry entry, gone;
    if (ph_allocations_take(holding, key, &entry) && ph_allocations_unrefer(entry.other, &gone)) ph_release(gone.device, gone.bytes);
}

static void let_go_of_range(enum ph_holding holding, uint64_t from, uint64_t size) {
    uint64_t keys[AT_ONCE];
    size_t count;
    do {
        count = ph_allocations_keys(holding, from, from + size, keys, AT_ONCE);
        for (size_t i = 0; i < count; i++) let_go(holding, keys[i]);
    } while (count == AT_ONCE);
}

CUresult ph_mem_map(const struct ph_call *call, CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                    unsigned long long flags) {
    ph_mutex_lock(&mapping_mutex);
    bool ours = ph_allocations_refer(handle);
    CUresult result = PH_NEXT(call, cuMemMap)(ptr, size, offset, handle, flags);
    struct ph_entry gone;
    if (result == CUDA_SUCCESS && ours)
        ph_allocations_add((struct ph_entry){ .key = ptr, .holding = PH_MAPPING, .other = handle });
    else if (ours && ph_allocations_unrefer(handle, &gone))
        ph_release(gone.device, gone.bytes);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

CUresult ph_mem_unmap(const struct ph_call *call, CUdeviceptr ptr, size_t size) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMemUnmap)(ptr, size);
    if (result == CUDA_SUCCESS) let_go_of_range(PH_MAPPING, ptr, size);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

static void bind(uint64_t key, uint64_t handle) {
    if (ph_allocations_refer(handle)) ph_allocations_add((struct ph_entry){ .key = key, .holding = PH_BINDING, .other = handle });
}

/* Offsets of one object follow each other, so that a range can be let go. */
static uint64_t multicast_key(uint64_t object, uint64_t offset) { return object * 0x9e3779b97f4a7c15u + offset; }

/* Everything mapped in the range stays alive with the object: a program may unmap and release it at once. */
static void bind_mapped(uint64_t object, uint64_t offset, uint64_t ptr, uint64_t size) {
    uint64_t *keys = NULL;
    size_t room = 0, count;
    do { /* until all of them fit */
        room += AT_ONCE;
        free(keys);
        if (!(keys = malloc(room * sizeof *keys))) return;
        count = ph_allocations_keys(PH_MAPPING, ptr, ptr + size, keys, room);
    } while (count == room);
    for (size_t i = 0; i < count; i++) {
        struct ph_entry mapping;
        if (ph_allocations_find(PH_MAPPING, keys[i], &mapping)) bind(multicast_key(object, offset + (keys[i] - ptr)), mapping.other);
    }
    free(keys);
}

CUresult ph_multicast_bind(const struct ph_call *call, CUmemGenericAllocationHandle object, size_t offset,
                           CUmemGenericAllocationHandle memory, size_t memory_offset, size_t size, unsigned long long flags) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMulticastBindMem)(object, offset, memory, memory_offset, size, flags);
    if (result == CUDA_SUCCESS) bind(multicast_key(object, offset), memory);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

CUresult ph_multicast_bind_v2(const struct ph_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                              CUmemGenericAllocationHandle memory, size_t memory_offset, size_t size, unsigned long long flags) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMulticastBindMem_v2)(object, device, offset, memory, memory_offset, size, flags);
    if (result == CUDA_SUCCESS) bind(multicast_key(object, offset), memory);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

CUresult ph_multicast_bind_address(const struct ph_call *call, CUmemGenericAllocationHandle object, size_t offset, CUdeviceptr ptr,
                                   size_t size, unsigned long long flags) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMulticastBindAddr)(object, offset, ptr, size, flags);
    if (result == CUDA_SUCCESS) bind_mapped(object, offset, ptr, size);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

CUresult ph_multicast_bind_address_v2(const struct ph_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                                      CUdeviceptr ptr, size_t size, unsigned long long flags) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMulticastBindAddr_v2)(object, device, offset, ptr, size, flags);
    if (result == CUDA_SUCCESS) bind_mapped(object, offset, ptr, size);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

CUresult ph_multicast_unbind(const struct ph_call *call, CUmemGenericAllocationHandle object, CUdevice device, size_t offset,
                             size_t size) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMulticastUnbind)(object, device, offset, size);
    if (result == CUDA_SUCCESS) let_go_of_range(PH_BINDING, multicast_key(object, offset), size);
    ph_mutex_unlock(&mapping_mutex);
    return result;
}

/* Where in a sparse array something is mapped, as one key. */
static uint64_t tile_key(const CUarrayMapInfo *info) {
    uint64_t key = 1469598103934665603u;
    const unsigned char *parts[2] = { (const unsigned char *)&info->resource, (const unsigned char *)&info->subresource };
    size_t sizes[2] = { sizeof info->resource, sizeof info->subresource };
    for (int p = 0; p < 2; p++)
        for (size_t i = 0; i < sizes[p]; i++) key = (key ^ parts[p][i]) * 1099511628211u;
    return key;
}

CUresult ph_mem_map_array(const struct ph_call *call, CUarrayMapInfo *list, unsigned int count, CUstream stream) {
    ph_mutex_lock(&mapping_mutex);
    CUresult result = PH_NEXT(call, cuMemMapArrayAsync)(list, count, stream);
    for (unsigned int i = 0; result == CUDA_SUCCESS && list && i < count; i++) {
        if (list[i].memOperationType == CU_MEM_OPERATION_TYPE_MAP) bind(tile_key(&list[i]), list[i].memHandle.memHandle);
        else let_go(PH_BINDING, tile_key(&list[i]));
    }
    ph_mutex_unlock(&mapping_mutex);
    return result;
}
