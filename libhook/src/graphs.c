/* Stream capture and the memory of graphs.
 * A graph with allocation nodes takes their sum when it is instantiated; what the device keeps for graphs after
 * an executable graph is destroyed stays charged until it is trimmed. */
#define _GNU_SOURCE
#include "limiter.h"
#include "memory.h"

#include <stdlib.h>

int ph_captures;

bool ph_capturing_now(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (stream == NULL && per_thread) stream = CU_STREAM_PER_THREAD;
    if (!ph_driver.cuStreamIsCapturing || stream == PH_EVERY_STREAM) return true;
    if (ph_driver.cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS) return true; /* legacy stream during a capture */
    return status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static void begins(CUstream stream, const struct ph_call *call) {
    ph_before_order(stream, call->per_thread); /* no measurement may start before and end inside a capture */
    __atomic_add_fetch(&ph_captures, 1, __ATOMIC_RELAXED);
}

static CUresult began(CUresult result) {
    if (result != CUDA_SUCCESS) __atomic_sub_fetch(&ph_captures, 1, __ATOMIC_RELAXED);
    return result;
}

CUresult ph_begin_capture(const struct ph_call *call, CUstream stream) {
    begins(stream, call);
    return began(PH_NEXT(call, cuStreamBeginCapture)(stream));
}

CUresult ph_begin_capture_v2(const struct ph_call *call, CUstream stream, CUstreamCaptureMode mode) {
    begins(stream, call);
    return began(PH_NEXT(call, cuStreamBeginCapture_v2)(stream, mode));
}

CUresult ph_begin_capture_to_graph(const struct ph_call *call, CUstream stream, CUgraph graph, const CUgraphNode *nodes,
                                   const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode) {
    begins(stream, call);
    return began(PH_NEXT(call, cuStreamBeginCaptureToGraph)(stream, graph, nodes, edges, count, mode));
}

CUresult ph_end_capture(const struct ph_call *call, CUstream stream, CUgraph *graph) {
    bool was = ph_capturing(stream, call->per_thread);
    CUresult result = PH_NEXT(call, cuStreamEndCapture)(stream, graph);
    /* A failed capture has ended too, unless the stream was not recording at all. */
    if (was && __atomic_sub_fetch(&ph_captures, 1, __ATOMIC_RELAXED) < 0) __atomic_store_n(&ph_captures, 0, __ATOMIC_RELAXED);
    return result;
}

/* Bytes of all allocation nodes, children included. */
static uint64_t graph_bytes(CUgraph graph, int *device, int depth) {
    size_t count = 0;
    if (!ph_driver.cuGraphGetNodes || !ph_driver.cuGraphMemAllocNodeGetParams || depth > 8) return 0;
    if (ph_driver.cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || count == 0) return 0;
    CUgraphNode *nodes = calloc(count, sizeof *nodes);
    uint64_t sum = 0;
    if (!nodes || ph_driver.cuGraphGetNodes(graph, nodes, &count) != CUDA_SUCCESS) count = 0;
    for (size_t i = 0; i < count; i++) {
        CUgraphNodeType type;
        CUDA_MEM_ALLOC_NODE_PARAMS params;
        CUgraph child;
        if (ph_driver.cuGraphNodeGetType(nodes[i], &type) != CUDA_SUCCESS) continue;
        if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && ph_driver.cuGraphMemAllocNodeGetParams(nodes[i], &params) == CUDA_SUCCESS) {
            sum += ph_round_up(params.bytesize, 512);
            *device = ph_ordinal(params.poolProps.location.id);
        } else if (type == CU_GRAPH_NODE_TYPE_GRAPH && ph_driver.cuGraphChildGraphNodeGetGraph(nodes[i], &child) == CUDA_SUCCESS) {
            sum += graph_bytes(child, device, depth + 1);
        }
    }
    free(nodes);
    return sum;
}

static uint64_t cache_key(int device) { return UINT64_MAX - (uint64_t)device; }

/* What the driver keeps for graphs beyond the graphs that exist. */
static void follow_cache(CUdevice cuda_device, int device) {
    cuuint64_t reserved = 0;
    uint64_t keys[256], booked = 0;
    if (!ph_driver.cuDeviceGetGraphMemAttribute ||
        ph_driver.cuDeviceGetGraphMemAttribute(cuda_device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS) return;
    size_t count = ph_ledger_keys(PH_GRAPH, 0, cache_key(PH_MAX_DEVICES), keys, 256);
    struct ph_entry entry;
    for (size_t i = 0; i < count; i++)
        if (ph_ledger_find(PH_GRAPH, keys[i], &entry) && entry.device == device) booked += entry.bytes;
    if (!ph_ledger_find(PH_GRAPH, cache_key(device), &entry))
        ph_ledger_add((struct ph_entry){ .key = cache_key(device), .holding = PH_GRAPH, .device = device });
    ph_ledger_resize(PH_GRAPH, cache_key(device), reserved > booked ? reserved - booked : 0);
}

struct room {
    int device;
    uint64_t bytes;
    bool granted;
};

static struct room make_room(CUgraph graph) {
    ph_attach();
    struct room room = { .device = ph_current_ordinal() };
    room.bytes = graph_bytes(graph, &room.device, 0);
    room.granted = room.bytes == 0 || ph_reserve_or_refresh(room.device, room.bytes);
    return room;
}

static CUresult settle(CUresult result, struct room room, const CUgraphExec *exec) {
    if (room.bytes && result == CUDA_SUCCESS)
        ph_ledger_add((struct ph_entry){ .key = (uintptr_t)*exec, .holding = PH_GRAPH, .device = room.device, .bytes = room.bytes });
    else if (room.bytes)
        ph_release(room.device, room.bytes);
    return result;
}

CUresult ph_graph_instantiate(const struct ph_call *call, CUgraphExec *exec, CUgraph graph, CUgraphNode *error, char *text, size_t size) {
    struct room room = make_room(graph);
    if (!room.granted) return CUDA_ERROR_OUT_OF_MEMORY;
    return settle(PH_NEXT(call, cuGraphInstantiate)(exec, graph, error, text, size), room, exec);
}

CUresult ph_graph_instantiate_flags(const struct ph_call *call, CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    struct room room = make_room(graph);
    if (!room.granted) return CUDA_ERROR_OUT_OF_MEMORY;
    return settle(PH_NEXT(call, cuGraphInstantiateWithFlags)(exec, graph, flags), room, exec);
}

CUresult ph_graph_instantiate_params(const struct ph_call *call, CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
    struct room room = make_room(graph);
    if (!room.granted) return CUDA_ERROR_OUT_OF_MEMORY;
    return settle(PH_NEXT(call, cuGraphInstantiateWithParams)(exec, graph, params), room, exec);
}

CUresult ph_graph_exec_destroy(const struct ph_call *call, CUgraphExec exec) {
    struct ph_entry entry;
    bool known = ph_ledger_take(PH_GRAPH, (uintptr_t)exec, &entry);
    CUresult result = PH_NEXT(call, cuGraphExecDestroy)(exec);
    CUdevice device = 0;
    if (known && result == CUDA_SUCCESS) {
        if (ph_driver.cuCtxGetDevice && ph_driver.cuCtxGetDevice(&device) == CUDA_SUCCESS) follow_cache(device, entry.device);
        ph_release(entry.device, entry.bytes);
    } else if (known) {
        ph_ledger_add(entry);
    }
    return result;
}

CUresult ph_graph_mem_trim(const struct ph_call *call, CUdevice device) {
    CUresult result = PH_NEXT(call, cuDeviceGraphMemTrim)(device);
    if (result == CUDA_SUCCESS) follow_cache(device, ph_ordinal(device));
    return result;
}
