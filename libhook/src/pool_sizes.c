#define _GNU_SOURCE
#include "pool_sizes.h"

#include "device.h"
#include "locks.h"


enum { STEP_MOST = 32 << 20, STEP_LEAST = 2 << 20 }; /* what pools grow by: drivers were seen to take 32 MiB */
static struct ph_mutex pool_mutex = PH_MUTEX(POOL);

void ph_pools_after_fork(void) { ph_mutex_after_fork(&pool_mutex); }

bool ph_pool_holds(CUmemoryPool pool, uint64_t *reserved, uint64_t *used) {
    cuuint64_t value = 0;
    if (!ph_driver.cuMemPoolGetAttribute ||
        PH_ASK(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &value) != CUDA_SUCCESS) return false;
    *reserved = value;
    if (used) {
        if (PH_ASK(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value) != CUDA_SUCCESS) return false;
        *used = value;
    }
    return true;
}

uint64_t ph_pool_follow(CUmemoryPool pool) {
    uint64_t reserved;
    struct ph_entry entry;
    if (ph_allocations_find(PH_POOL, (uintptr_t)pool, &entry) && entry.device == PH_OF_THE_HOST) return 0;
    ph_mutex_lock(&pool_mutex); /* question and booking in one piece, or an older answer could win */
    bool told = ph_pool_holds(pool, &reserved, NULL);
    if (told) ph_allocations_resize(PH_POOL, (uintptr_t)pool, reserved);
    ph_mutex_unlock(&pool_mutex);
    return told ? reserved : 0;
}

void ph_pools_refresh(void) {
    uint64_t keys[64];
    size_t count = ph_allocations_keys(PH_POOL, 0, UINT64_MAX, keys, 64);
    for (size_t i = 0; i < count; i++) ph_pool_follow((CUmemoryPool)(uintptr_t)keys[i]);
}

/* What a program did not make itself (a host's default pool, an imported one) tells where it is, from CUDA 13 on. */
int ph_pool_place(CUmemoryPool pool) {
    int type = CU_MEM_LOCATION_TYPE_DEVICE, id = 0;
    if (!ph_driver.cuMemPoolGetAttribute ||
        PH_ASK(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_LOCATION_TYPE, &type) != CUDA_SUCCESS ||
        PH_ASK(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_LOCATION_ID, &id) != CUDA_SUCCESS) return ph_current_ordinal();
    return type == CU_MEM_LOCATION_TYPE_DEVICE ? ph_ordinal(id) : PH_OF_THE_HOST;
}

void ph_pool_meet(CUmemoryPool pool, int device) {
    ph_mutex_lock(&pool_mutex);
    struct ph_entry entry = { .key = (uintptr_t)pool, .holding = PH_POOL, .device = device, .other = STEP_MOST };
    if (!ph_allocations_find(PH_POOL, (uintptr_t)pool, &entry)) ph_allocations_add(entry);
    ph_mutex_unlock(&pool_mutex);
}

/* A pool's steps (in `other` of its entry) are learned from how it grows: reserving less would let it pass the limit. */
void ph_pool_learn_step(const struct ph_entry *pool, uint64_t before, uint64_t after) {
    uint64_t step = pool->other;
    struct ph_entry now;
    if (after <= before || (after - before) % step == 0) return;
    while (step > STEP_LEAST && (after - before) % step != 0) step /= 2;
    ph_mutex_lock(&pool_mutex);
    if (ph_allocations_take(PH_POOL, pool->key, &now)) {
        now.other = step;
        ph_allocations_add(now);
    }
    ph_mutex_unlock(&pool_mutex);
}
