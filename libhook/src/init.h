/* Life cycle. Nothing happens when the library is loaded; the first intercepted call finds the driver and the
 * configuration, the first that succeeds after cuInit opens the shared region. fork starts over in the child. */
#pragma once

#include "compiler.h"
#include "gate.h"

void ph_initialize(void); /* find the driver, read the configuration; no CUDA call */
void ph_initialize_at_launch(void); /* and attach: a launch needs a context, so cuInit has been called */
static inline void ph_ensure_initialized(void) {
    if (PH_UNLIKELY(ph_gate_state() == PH_GATE_UNINITIALIZED)) ph_initialize();
}
