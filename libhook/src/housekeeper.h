/* One thread per process: bills finished work while nobody launches, follows live changes of limits, and tells
 * the region what the process does. */
#pragma once

#include <stdbool.h>

void ph_housekeeper_start(void); /* at the first launch */
void ph_housekeeper_after_fork(void);
bool ph_watching(void); /* launches are timed for the sake of monitors */
