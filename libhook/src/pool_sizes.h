/* What pools hold. That is the memory a pool has reserved from the device, not the pointers in it: pools keep memory after a
 * free and grow in steps of their own. */
#pragma once

#include "calls.h"
#include "allocations.h"

enum { PH_OF_THE_HOST = -1 }; /* in the place of a GPU: memory that is none of a GPU's */

bool ph_pool_holds(CUmemoryPool pool, uint64_t *reserved, uint64_t *used); /* `used` may be NULL; false: it does not tell */
uint64_t ph_pool_follow(CUmemoryPool pool); /* books what it holds and returns it; 0 if it does not tell, or is the host's */
int ph_pool_place(CUmemoryPool pool);       /* ordinal, or PH_OF_THE_HOST */
void ph_pool_meet(CUmemoryPool pool, int device);
/* The pool held `before` bytes and holds `after`. */
void ph_pool_learn_step(const struct ph_entry *pool, uint64_t before, uint64_t after);
void ph_pools_refresh(void); /* brings the charge of every pool to what the driver says it holds */
void ph_pools_after_fork(void);
