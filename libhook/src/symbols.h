/* Finding symbols without asking any dlsym, ours or the program's. */
#pragma once

#include "compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void *(*ph_dlsym_function)(void *handle, const char *name);
typedef void *(*ph_dlvsym_function)(void *handle, const char *name, const char *version);
/* glibc's; NULL until ph_glibc_dlsym was called. Jumped to by assembly: hidden, so that no relocation goes through another
 * library. */
extern ph_dlsym_function ph_next_dlsym __attribute__((visibility("hidden")));
extern ph_dlvsym_function ph_next_dlvsym __attribute__((visibility("hidden")));

ph_dlsym_function ph_glibc_dlsym(void);
uint32_t ph_symbol_hash(const char *name); /* as in GNU hash tables */

PH_BARE static inline bool ph_starts(const char *text, const char *with) {
    while (*with && *text == *with) text++, with++;
    return *with == 0;
}
