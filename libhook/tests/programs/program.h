/* What the test programs share: checks, the fake machine's clock where there is one, and workers. A program knows
 * nothing of the hook; it is an ordinary CUDA program. */
#pragma once

#define _GNU_SOURCE
#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call) check((call), #call, __LINE__)
static inline void check(CUresult result, const char *what, int line) {
    if (result == CUDA_SUCCESS) return;
    fprintf(stderr, "line %d: %s = %d\n", line, what, (int)result);
    exit(2);
}

/* Of the fake machine; absent on a real GPU. */
extern int64_t fg_process_busy(int device, int pid) __attribute__((weak));
extern void fg_step_back(void) __attribute__((weak));
extern void fg_meet(int programs) __attribute__((weak));
extern void fg_process_leaves(void) __attribute__((weak));
extern uint64_t fg_memory_used(int device) __attribute__((weak));
extern uint64_t fg_memory_own(int device) __attribute__((weak));
extern uint64_t fg_memory_excess(int device) __attribute__((weak));

/* They are built with the fake machine and may run on a real GPU all the same. */
static inline bool on_fake_machine(void) { return fg_process_busy && !getenv("PROGRAM_ON_GPU"); }

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return otherwise;
}
static inline int64_t number(int argc, char **argv, const char *name, int64_t otherwise) {
    const char *text = option(argc, argv, name, NULL);
    return text ? strtoll(text, NULL, 0) : otherwise;
}

/* A kernel that keeps the GPU busy for as many ns as its parameter says. */
static const char SPIN_PTX[] =
    ".version 6.0\n.target sm_50\n.address_size 64\n"
    ".visible .entry spin(.param .u64 ns) {\n"
    ".reg .u64 %a, %b, %n; .reg .pred %p;\n"
    "ld.param.u64 %n, [ns]; mov.u64 %a, %globaltimer;\n"
    "again: mov.u64 %b, %globaltimer; sub.u64 %b, %b, %a; setp.lt.u64 %p, %b, %n; @%p bra again;\n"
    "ret; }\n";
