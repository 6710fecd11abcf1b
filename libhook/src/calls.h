/* The driver's functions that have a hook, and how one of them is called. The table is made from hooks.def. */
#pragma once

#include "compiler.h"
#include "locks.h"

#define __CUDA_API_VERSION_INTERNAL 1 /* cuda.h then declares every ABI by its own name, no macros */
#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#include <cuda.h>
#include <nvml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PH_EVERY_STREAM ((CUstream)(intptr_t)-1)

/* One intercepted symbol. `real` is the driver's, or a stub that answers "not found". */
struct ph_call {
    void *real;
    const char *symbol;
    const char *base; /* the name cuGetProcAddress knows it by */
    void *hook;
    int since; /* CUDA release of this ABI, 0 for NVML */
    bool per_thread;
};
#include "ph_calls.h"
extern struct ph_call ph_calls[PH_COUNT];

static inline void *ph_real(const struct ph_call *call) { return __atomic_load_n(&call->real, __ATOMIC_RELAXED); }

/* The driver's function behind a symbol of the table, typed by our own declaration of it: a question of ours. */
#define PH_REAL(symbol) (ph_driver_use(PH_ASKS), (__typeof__(&symbol))ph_real(&ph_calls[PH_##symbol]))
/* The driver's function behind the program's call at hand; `like` names any symbol with the same parameters. */
#define PH_NEXT(call, like) (ph_driver_use(PH_WAITS), (__typeof__(&like))ph_real(call))
