/* The account brought up to what the driver holds, and reservations that try that before they are refused. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

uint64_t ph_round_up(uint64_t bytes, uint64_t unit);
/* Asks again what pools, graphs, contexts and code hold. */
void ph_reconcile(void);
/* Reserves; at the limit first looks whether pools have shrunk meanwhile. */
bool ph_reserve_or_reconcile(int device, uint64_t bytes);
