/* How programs find the driver: dlsym, dlvsym (exported by interpose.c itself) and cuGetProcAddress. */
#pragma once

/* Says once that the driver has something that takes memory or GPU time and has no hook, if a program was given it. */
void ph_report_unknown(void);
