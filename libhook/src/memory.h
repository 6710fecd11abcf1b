/* What the memory hooks share. */
#pragma once

#include "account.h"
#include "driver.h"

uint64_t ph_round_up(uint64_t bytes, uint64_t unit);
/* Reserves; at the limit first looks whether pools have shrunk meanwhile. */
bool ph_reserve_or_refresh(int device, uint64_t bytes);
/* Brings the charge of every pool to what the driver says it holds. */
void ph_pools_refresh(void);
/* The same for memory that no call of the program's asked for (overhead.c), and for pools. */
void ph_books_refresh(void);
/* Before and after a context is made; `ordinal` as in device.c. False: no room for it. */
struct ph_new_context {
    int ordinal;
    uint64_t reserved; /* bytes */
    bool locked; /* no other process of the container makes its first one */
    unsigned int before[64], count; /* pids that NVML knew */
};
bool ph_context_begins(struct ph_new_context *fresh, int ordinal);
CUresult ph_context_made(struct ph_new_context *fresh, CUresult result, const CUcontext *context);
void ph_overhead_refresh(void);
void ph_overhead_after_fork(void);
/* The stream records instead of running. */
bool ph_capturing(CUstream stream, bool per_thread);
