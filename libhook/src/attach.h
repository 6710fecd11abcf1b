/* After cuInit: devices, shared region, limits. Every hook that accounts or shows asks for it first. */
#pragma once

void ph_attach(void);
/* cuInit has succeeded: what was found without CUDA is matched with what it knows. */
void ph_attach_after_init(void);
void ph_attach_after_fork(void);
