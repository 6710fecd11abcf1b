/* How limits from several sources become one. 0 is none everywhere. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t ph_lower_limit(uint64_t a, uint64_t b) { return a == 0 ? b : b == 0 || a < b ? a : b; }

/* The limit in force, of memory or GPU time. With the node's word (`trusted`) the region may lower what is configured;
 * without it, the region is where the monitor changes limits. */
static inline uint64_t ph_limit_in_force(uint64_t configured, uint64_t shared, bool trusted) {
    return trusted ? ph_lower_limit(configured, shared) : shared;
}
