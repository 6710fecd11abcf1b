/* Shared by the fake driver's parts. Kernels: a function named spin takes its duration in ns as its first
 * parameter (a 64-bit integer), one named spin_N always runs N ns, one named hold until the int is not zero that its first
 * parameter points to; any other runs 10 µs. */
#pragma once

#define __CUDA_API_VERSION_INTERNAL 1
#include "gpu.h"
#include "sanitizer.h"

#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fk_call {
    const char *symbol;
    bool per_thread;
};
struct fk_symbol {
    const char *base, *symbol;
    int since;
    bool per_thread;
    void *address;
};
extern const struct fk_symbol fk_symbols[];

/* Counts and logs the call (FAKE_CUDA_LOG=file) and fails it if FAKE_CUDA_FAIL=symbol:n[:error] says so; n = -1: always. */
int fk_enter(const struct fk_call *call);
int fk_unsupported(const char *symbol);

enum { FK_QUEUE = 1024 };
struct fk_context {
    int device, gpu; /* the machine's GPU; its context in gpu.h */
    int ordinal;     /* what CUDA calls the GPU here */
    bool primary;
    int64_t legacy_tail;
    struct fk_stream *streams;
    struct fk_block *blocks;
    struct fk_module *modules;
};
struct fk_module { /* a library is a module too, of the context that is current when it is loaded */
    struct fk_context *context; /* NULL: unloaded */
    uint64_t bytes;
    struct fk_module *next;
};
struct fk_stream {
    struct fk_context *context;
    int64_t tail; /* service time at which all queued work ends */
    struct fk_graph *capture;
    CUstreamCaptureMode capture_mode;
    bool invalidated, blocking; /* blocking: ordered with the legacy stream */
    struct fk_gated *gated;     /* what stands before a gate, and behind it */
    int gated_count;
    int64_t ends[FK_QUEUE]; /* when the last launches end; a full queue makes the next one wait, as hardware does */
    unsigned int launches;
    struct fk_stream *next;
};
struct fk_block { /* linear memory and arrays: they die with their context */
    CUdeviceptr address;
    uint64_t bytes;
    int device;
    struct fk_block *next;
};
struct fk_node {
    CUgraphNodeType type;
    int64_t ns;
    CUDA_MEM_ALLOC_NODE_PARAMS memory;
};
struct fk_graph {
    struct fk_node *nodes;
    size_t count, room;
};
extern pthread_mutex_t fk_mutex;
extern __thread struct fk_context *fk_current;
struct fk_node *fk_add_node(struct fk_graph *graph);
int64_t fk_duration(CUfunction function, void **parameters);
CUresult fk_run(CUstream handle, bool per_thread, int64_t ns); /* queues ns of work */
bool fk_is_legacy(CUstream handle, bool per_thread);
struct fk_stream *fk_stream_of(CUstream stream, bool per_thread);
/* captures.c: what invalidates captures */
CUresult fk_legacy_used(const struct fk_context *context);
CUresult fk_asked(void);
/* gates.c */
struct fk_event;
bool fk_gated(struct fk_stream *stream);
void fk_wait_ungated(struct fk_stream *stream);
void fk_gate_kernel(struct fk_stream *stream, int64_t ns);
void fk_gate_record(struct fk_stream *stream, struct fk_event *event);
void fk_gate_hold(struct fk_stream *stream, volatile int *word);
void fk_gate_meet(struct fk_stream *stream, volatile int *arrived, int64_t wanted); /* FAKE_CUDA_CALL_NS has to be 0 */
void fk_record_now(struct fk_event *event, struct fk_stream *stream); /* streams.c */
int fk_gpu_of(CUdevice device); /* the machine's GPU of one that CUDA_VISIBLE_DEVICES lets this process see */
CUdeviceptr fk_address(uint64_t bytes);
bool fk_back_to_pool(CUdeviceptr address);
void fk_pools_settle(void); /* what a synchronisation gives back */
bool fk_pool_stream_alloc(struct fk_stream *stream, uint64_t bytes); /* in a capture: becomes a node */
struct fk_device_uuid {
    unsigned char bytes[16];
};
void fk_uuid(int device, unsigned char bytes[16]);
