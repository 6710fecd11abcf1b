/* What /proc says of processes. */
#pragma once

#include <stdint.h>

uint64_t ph_process_start_time(int pid); /* field 22 of its stat, clock ticks since boot; 0: not to be seen */
uint64_t ph_process_namespace(void);     /* inode of this process's PID namespace; 0: not to be seen */
enum ph_mapped { PH_MAPS_NOT, PH_MAPS, PH_CANNOT_TELL };
enum ph_mapped ph_mapped_by(int pid, uint64_t inode); /* whether a process has the file mapped */
