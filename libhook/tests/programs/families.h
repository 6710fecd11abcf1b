/* The ways to get device memory that memory.c tries one after another. */
#pragma once

#include "program.h"

struct family {
    const char *name;
    void (*run)(size_t size);
};
extern const struct family variants[];
extern const size_t variants_count;

extern CUstream stream;
extern CUcontext context;
uint64_t charged(void); /* bytes, as the hook tells programs */
