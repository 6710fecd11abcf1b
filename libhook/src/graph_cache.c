#define _GNU_SOURCE
#include "graph_cache.h"

#include "device.h"
#include "allocations.h"

static uint64_t cache_key(int device) { return UINT64_MAX - (uint64_t)device; }

uint64_t ph_graph_cache_kept(int device) {
    struct ph_entry kept;
    return ph_allocations_find(PH_GRAPH, cache_key(device), &kept) ? kept.bytes : 0;
}

bool ph_graph_cache_follow(CUdevice cuda_device, int device) {
    cuuint64_t reserved = 0;
    struct ph_entry kept = { .key = cache_key(device), .holding = PH_GRAPH, .device = device, .other = (uint64_t)cuda_device };
    if (!ph_driver.cuDeviceGetGraphMemAttribute) return false;
    if (!ph_allocations_find(PH_GRAPH, kept.key, &kept)) ph_allocations_add(kept);
    if (PH_ASK(cuDeviceGetGraphMemAttribute)(cuda_device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS) return false;
    uint64_t booked = ph_allocations_sum(PH_GRAPH, device) - kept.bytes;
    ph_allocations_resize(PH_GRAPH, kept.key, reserved > booked ? reserved - booked : 0);
    return true;
}

void ph_graph_cache_keep(int device, uint64_t bytes) {
    struct ph_entry kept;
    if (ph_allocations_find(PH_GRAPH, cache_key(device), &kept)) ph_allocations_resize(PH_GRAPH, cache_key(device), kept.bytes + bytes);
}

void ph_graphs_refresh(void) {
    struct ph_entry entry;
    for (int device = 0; device < ph_device_count; device++)
        if (ph_allocations_find(PH_GRAPH, cache_key(device), &entry)) ph_graph_cache_follow((CUdevice)entry.other, device);
}
