/* What a launch has to look at. One cache line, read by every launch, written rarely. */
#pragma once

enum { PH_GATE_UNINITIALIZED = 0, PH_GATE_OPEN = 1, PH_GATE_TIMED = 2 };
struct ph_gate {
    int state;
    int active; /* set by launches, cleared by the housekeeper once a second */
} __attribute__((aligned(64)));
extern struct ph_gate ph_gate;

/* Acquire: whoever sees the gate past START sees everything that was set up before. */
static inline int ph_gate_state(void) { return __atomic_load_n(&ph_gate.state, __ATOMIC_ACQUIRE); }
