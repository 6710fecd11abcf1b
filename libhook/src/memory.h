/* What the memory hooks share. */
#pragma once

#include "account.h"
#include "driver.h"

uint64_t ph_round_up(uint64_t bytes, uint64_t unit);
/* Reserves; at the limit first looks whether pools have shrunk meanwhile. */
bool ph_reserve_or_refresh(int device, uint64_t bytes);
/* Brings the charge of every pool to what the driver says it holds. */
void ph_pools_refresh(void);
/* Asks again what the driver keeps for graphs, where it did not tell. */
void ph_graphs_refresh(void);
/* All of these, and memory that no call of the program's asked for (overhead.c). */
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
void ph_pools_after_fork(void);
void ph_vmm_after_fork(void);
void ph_captures_after_fork(void);

/* graphs.c: streams of this process that record now; 0 spares every launch the question. */
extern int ph_captures;
static inline bool ph_any_capture(void) { return __atomic_load_n(&ph_captures, __ATOMIC_RELAXED) != 0; }
bool ph_capturing_now(CUstream stream, bool per_thread);
/* The stream records instead of running. */
static inline bool ph_capturing(CUstream stream, bool per_thread) {
    return PH_UNLIKELY(ph_any_capture()) && ph_capturing_now(stream, per_thread);
}
