/* Stream capture: what a program records instead of running. */
#pragma once

#include "calls.h"

extern int ph_captures; /* streams of this process that record now; 0 spares every launch the question; atomic */
void ph_captures_after_fork(void);
bool ph_capturing_now(CUstream stream, bool per_thread);
static inline bool ph_any_capture(void) { return __atomic_load_n(&ph_captures, __ATOMIC_RELAXED) != 0; }
/* The stream records instead of running. */
static inline bool ph_capturing(CUstream stream, bool per_thread) {
    return PH_UNLIKELY(ph_any_capture()) && ph_capturing_now(stream, per_thread);
}
