/* What the hooks share. Those of hooks.def are declared by ph_hooks.h, whichever file they are in; the wrappers, which are
 * exported and call them, are ph_wrappers.c. Both are made from hooks.def. A file of nothing but such hooks (contexts.c,
 * memory.c, pools.c, graphs.c, reported.c) has no header of its own. */
#pragma once

#include "calls.h"
#include "ph_hooks.h"

static inline uint64_t ph_config_grid(const CUlaunchConfig *config) {
    return config ? (uint64_t)config->gridDimX * config->gridDimY * config->gridDimZ : 0;
}
