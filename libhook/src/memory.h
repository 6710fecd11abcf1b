/* What the memory hooks share. */
#pragma once

#include "account.h"
#include "driver.h"

uint64_t ph_round_up(uint64_t bytes, uint64_t unit);
/* Reserves; at the limit first looks whether pools have shrunk meanwhile. */
bool ph_reserve_or_refresh(int device, uint64_t bytes);
/* Brings the charge of every pool to what the driver says it holds. */
void ph_pools_refresh(void);
/* The stream records instead of running. */
bool ph_capturing(CUstream stream, bool per_thread);
