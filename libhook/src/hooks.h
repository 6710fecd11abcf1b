/* Shared by every part of libhook: the call table, the gate, and what the wrappers need.
 * Start reading at start.c (life cycle), then memory.c (accounting hooks) and limiter.c (GPU time). */
#pragma once

#define __CUDA_API_VERSION_INTERNAL 1 /* cuda.h then declares every ABI by its own name, no macros */
#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#include <cuda.h>
#include <nvml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PH_EXPORT __attribute__((visibility("default")))
#define PH_LIKELY(x) __builtin_expect(!!(x), 1)
#define PH_UNLIKELY(x) __builtin_expect(!!(x), 0)
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
#include "ph_generated.h"
extern struct ph_call ph_calls[PH_COUNT];

static inline void *ph_real(const struct ph_call *call) { return __atomic_load_n(&call->real, __ATOMIC_RELAXED); }

/* The driver's function behind a symbol of the table, typed by our own declaration of it. */
#define PH_REAL(symbol) ((__typeof__(&symbol))ph_real(&ph_calls[PH_##symbol]))
/* The driver's function behind the call at hand; `like` names any symbol with the same parameters. */
#define PH_NEXT(call, like) ((__typeof__(&like))ph_real(call))

/* What a launch has to look at. One cache line, read by every launch, written rarely. */
enum { PH_GATE_START = 0, PH_GATE_OPEN = 1, PH_GATE_TIMED = 2 };
struct ph_gate {
    int state;
    int active; /* set by launches, cleared by the housekeeper once a second */
} __attribute__((aligned(64)));
extern struct ph_gate ph_gate;

/* Acquire: whoever sees the gate past START sees everything that was set up before. */
static inline int ph_gate_state(void) { return __atomic_load_n(&ph_gate.state, __ATOMIC_ACQUIRE); }

/* housekeeper.c: the first launch in a second. Somebody must listen to the monitor even where nothing is limited. */
void ph_first_activity(void);
static inline void ph_note_activity(void) {
    if (PH_UNLIKELY(!__atomic_load_n(&ph_gate.active, __ATOMIC_RELAXED))) ph_first_activity();
}

/* start.c */
void ph_start(void);  /* find the driver, read the configuration; no CUDA call */
void ph_attach(void); /* after cuInit: devices, shared region, limits */
static inline void ph_ensure_started(void) {
    if (PH_UNLIKELY(ph_gate_state() == PH_GATE_START)) ph_start();
}

/* batches.c: see there */
struct ph_launch {
    struct ph_batch *batch;
    struct ph_cost *cost;
    bool alone; /* measured by itself, to learn its cost */
};
bool ph_launch_begin(struct ph_launch *launch, CUstream stream, bool per_thread, const void *key, uint64_t size);
void ph_launch_end(struct ph_launch *launch, bool queued);
void ph_before_order(CUstream stream, bool per_thread);
void ph_after_wait(void);

static inline uint64_t ph_config_grid(const CUlaunchConfig *config) {
    return config ? (uint64_t)config->gridDimX * config->gridDimY * config->gridDimZ : 0;
}
