/* Memory that no call of the program's asked for: contexts, code, the driver's own reserves. By policy
 * (context_memory) nothing, a flat sum for each context, or what NVML says this process holds beyond its allocations.
 *
 * NVML names processes by their pids on the host, which a container does not know. The one that appears while the
 * first context is made is ours; when several appear at once it is tried again with the next context, and until
 * then the flat sum counts. A measurement stands only if nothing was allocated or freed meanwhile. */
#pragma once

#include "calls.h"

struct ph_new_context {
    int ordinal;
    uint64_t reserved; /* bytes; the caller's */
    bool locked; /* no other process of the container makes its first one */
    unsigned int before[64], count; /* pids that NVML knew */
};
/* Right before a context is made on the GPU `fresh->ordinal`, and after. What was reserved is booked or given back. */
void ph_context_begins(struct ph_new_context *fresh);
CUresult ph_context_made(struct ph_new_context *fresh, CUresult result, const CUcontext *context);
void ph_overhead_refresh(void);
void ph_overhead_after_fork(void);
