/* The machine behind the fake driver: virtual or real time, GPUs that serve contexts in slices, memory per
 * process. Everything lives in one shared file (FAKE_CUDA_SHM), so that all processes of a test see the same
 * GPUs; without it each process tree has its own.
 *
 * Virtual time (FAKE_CUDA_CLOCK=virtual, and this library preloaded): it stands still while any thread that takes
 * part is running, and jumps to the next thing that happens when all of them wait. Ten seconds of GPU work take
 * as long as the calls that make them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { FG_DEVICES = 16, FG_CONTEXTS = 512, FG_THREADS = 1024, FG_PROCESSES = 1024, FG_POINTS = 4096, FG_NAME = 48 };

struct fg_settings {
    int device_count;
    uint64_t memory_bytes;
    int cuda_version;
    int64_t slice_ns;
    int64_t call_ns; /* virtual time that every launch takes on the CPU */
    uint64_t context_bytes, module_bytes; /* FAKE_CUDA_CONTEXT_MIB, FAKE_CUDA_MODULE_MIB: taken by each */
    bool lazy; /* FAKE_CUDA_LAZY=1: a module takes its bytes when its first function is asked for */
    int64_t drift_ppm; /* FAKE_CUDA_DRIFT_PPM: how much faster the GPUs' clocks run than the host's */
    int64_t leap_at, leap; /* FAKE_CUDA_LEAP_AT_MS after the machine's start the GPUs' clocks leap by FAKE_CUDA_LEAP_MS, as
                            * when the host has slept; negative: back */
    int pid_offset; /* FAKE_NVML_PID_OFFSET: NVML's pids are the host's, not the container's */
};

void fg_ready(void);
const struct fg_settings *fg_settings(void);
bool fg_is_virtual(void);
int64_t fg_now(void);
int64_t fg_gpu_clock(int64_t host); /* what the GPUs' clocks show then */
void fg_wait_until(int64_t when);

/* Contexts: time is counted in ns of service, which passes only while the GPU works for the context. */
int fg_context_open(int device); /* -1: too many */
void fg_context_close(int context);
int64_t fg_context_served(int context);
/* Queues `ns` of work behind `after` (service time at which the stream's earlier work ends); returns its end. */
int64_t fg_submit(int context, int64_t after, int64_t ns);
void fg_wait_served(int context, int64_t until);
/* Global time at which the context had been served `target` ns; needs fg_context_served ≥ target. */
int64_t fg_time_of(int context, int64_t target, int64_t not_before);
int64_t fg_device_busy(int device); /* ns of service given, all contexts */
int64_t fg_process_busy(int device, int pid);
/* Live processes with a context on the device; returns how many. */
struct fg_use {
    int pid;
    uint64_t bytes;
    int64_t busy_ns;
};
int fg_processes(int device, struct fg_use use[FG_PROCESSES]);

/* Memory. False: the GPU is full. */
bool fg_memory_take(int device, uint64_t bytes);
void fg_memory_give(int device, uint64_t bytes);
uint64_t fg_memory_used(int device);     /* by live processes */
uint64_t fg_memory_own(int device);
uint64_t fg_memory_excess(int device);   /* most bytes ever above FAKE_CUDA_WATCH_LIMIT, live processes only */

/* A new thread counts as running from its creation, not from its first call. */
void *fg_expect_thread(void);
void fg_thread_arrived(void *expected);
/* Threads that wait for something other than time step aside meanwhile. */
void fg_step_aside(void);
void fg_step_back(void);
/* Waits until so many programs of this machine have come here; virtual time stands still meanwhile. Without it whoever the
 * kernel starts first has the machine, and its time, to itself until the others come. */
void fg_meet(int programs);
void fg_process_leaves(void); /* it is about to end, whatever its threads are waiting for */
