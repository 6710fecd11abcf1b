/* Virtual memory management: physical memory is charged where it is created and given back when neither a
 * handle, a mapping nor a multicast binding is left. Releasing the handle of mapped memory frees nothing. */
#pragma once

void ph_vmm_after_fork(void);
