/* Memory accounting. The bytes charged to this process are in its slot of the region, for each device; the sum over slots
 * is what the container uses. What they were charged for is in allocations.h. */
#pragma once

#include "region.h"

/* Reserves before the driver is asked. False: over the limit; nothing was changed. */
bool ph_reserve(int device, uint64_t bytes);
void ph_release(int device, uint64_t bytes);
/* Charges what already happened, limit or not (memory that the driver took by itself). */
void ph_charge(int device, uint64_t bytes);
/* Bytes in this process's slot: what its allocations hold and what is reserved at this moment. */
uint64_t ph_own_bytes(int device);
/* Tells readers of the region how much of it is no allocation of the program's. */
void ph_show_overhead(int device, uint64_t bytes);
uint64_t ph_usage(int device);        /* bytes, all live slots, dead ones not yet reaped included */
uint64_t ph_memory_limit(int device); /* bytes, 0 = none; live */
