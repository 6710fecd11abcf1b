/* The host's clock, in ns of CLOCK_MONOTONIC. */
#pragma once

#include <stdint.h>

int64_t ph_now(void);
void ph_sleep_until(int64_t when); /* signals do not end it */
