/* What others ask of the batches; launches and orders come through hooks.h. */
#pragma once

#include "hooks.h"

void ph_batches_close(const struct ph_batch *own);
void ph_batches_close_quiet(int64_t now);
int64_t ph_batches_open_since(int device); /* the earliest; INT64_MAX: none is. -1 = of any device */
void ph_batches_forget_context(CUcontext context); /* before it is destroyed: its events die with it */
void ph_batches_after_fork(void);
