/* One thread per process: bills finished work while nobody launches, follows live changes of limits, and tells
 * the region what the process does. */
#pragma once

#include "compiler.h"
#include "gate.h"

/* The first launch in a second, which starts the thread. Somebody must listen to the monitor even where nothing is limited. */
void ph_first_activity(void);
static inline void ph_note_activity(void) {
    if (PH_UNLIKELY(!__atomic_load_n(&ph_gate.active, __ATOMIC_RELAXED))) ph_first_activity();
}
void ph_housekeeper_after_fork(void);
