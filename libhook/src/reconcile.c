#define _GNU_SOURCE
#include "reconcile.h"

#include "account.h"
#include "graph_cache.h"
#include "log.h"
#include "overhead.h"
#include "pool_sizes.h"

uint64_t ph_round_up(uint64_t bytes, uint64_t unit) {
    return bytes > UINT64_MAX - unit ? UINT64_MAX - unit : (bytes + unit - 1) / unit * unit;
}

void ph_reconcile(void) {
    ph_pools_refresh();
    ph_graphs_refresh();
    ph_overhead_refresh();
}

bool ph_reserve_or_reconcile(int device, uint64_t bytes) {
    if (ph_reserve(device, bytes)) return true;
    ph_reconcile();
    if (ph_reserve(device, bytes)) return true;
    ph_info("refused %llu bytes on GPU %d: %llu of %llu used", (unsigned long long)bytes, device,
            (unsigned long long)ph_usage(device), (unsigned long long)ph_memory_limit(device));
    return false;
}
