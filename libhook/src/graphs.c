/* Captures, and the memory of graphs (what counts is in graph_cache.h). Room is made for the largest graph
 * when it is instantiated; what launches in several streams at once add is seen within a second. */
#define _GNU_SOURCE
#include "account.h"
#include "attach.h"
#include "batches.h"
#include "reconcile.h"
#include "captures.h"
#include "device.h"
#include "graph_cache.h"
#include "hooks.h"
#include "allocations.h"

#include <stdlib.h>

/* No measurement may start before and end inside a capture; and the legacy stream, which no event of ours may touch while
 * a stream that is ordered with it captures, shall have nothing open. */
static void begins(CUstream stream, const struct ph_call *call) {
    ph_before_order(stream, call->per_thread);
    ph_before_order(PH_EVERY_STREAM, false);
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

CUresult ph_begin_recapture(const struct ph_call *call, CUstream stream, CUstreamCaptureMode mode, CUgraph graph,
                            CUgraphRecaptureCallback callback, void *data) {
    begins(stream, call);
    return began(PH_NEXT(call, cuStreamBeginRecaptureToGraph)(stream, mode, graph, callback, data));
}

CUresult ph_end_capture(const struct ph_call *call, CUstream stream, CUgraph *graph) {
    bool was = ph_capturing(stream, call->per_thread);
    CUresult result = PH_NEXT(call, cuStreamEndCapture)(stream, graph);
    /* A failed capture has ended too, unless the stream was not recording at all. */
    if (was && __atomic_sub_fetch(&ph_captures, 1, __ATOMIC_RELAXED) < 0) __atomic_store_n(&ph_captures, 0, __ATOMIC_RELAXED);
    return result;
}

struct room {
    CUdevice cuda_device;
    int device; /* the same as ordinal */
    uint64_t bytes, reserved; /* of the graph's nodes; of them, what the driver has not got for graphs yet */
    bool unknown; /* there may be more */
    bool granted;
};

/* Bytes of all allocation nodes, children included; what cannot be read counts as nothing and is `unknown`. */
static uint64_t graph_bytes(CUgraph graph, struct room *room, int depth) {
    size_t count = 0;
    if (!ph_driver.cuGraphGetNodes || !ph_driver.cuGraphMemAllocNodeGetParams) return 0; /* no graphs, or none with memory */
    if (depth > 8 || PH_ASK(cuGraphGetNodes)(graph, NULL, &count) != CUDA_SUCCESS) {
        room->unknown = true;
        return 0;
    }
    if (count == 0) return 0;
    CUgraphNode *nodes = calloc(count, sizeof *nodes);
    uint64_t sum = 0;
    if (!nodes || PH_ASK(cuGraphGetNodes)(graph, nodes, &count) != CUDA_SUCCESS) {
        room->unknown = true;
        count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        CUgraphNodeType type;
        CUDA_MEM_ALLOC_NODE_PARAMS params;
        CUgraph child;
        CUresult told = PH_ASK(cuGraphNodeGetType)(nodes[i], &type);
        if (told == CUDA_SUCCESS && type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
            if ((told = PH_ASK(cuGraphMemAllocNodeGetParams)(nodes[i], &params)) == CUDA_SUCCESS) {
                sum += ph_round_up(params.bytesize, 512);
                room->cuda_device = params.poolProps.location.id;
                room->device = ph_ordinal(room->cuda_device);
            }
        } else if (told == CUDA_SUCCESS && type == CU_GRAPH_NODE_TYPE_GRAPH) {
            if ((told = PH_ASK(cuGraphChildGraphNodeGetGraph)(nodes[i], &child)) == CUDA_SUCCESS) sum += graph_bytes(child, room, depth + 1);
        }
        if (told != CUDA_SUCCESS) room->unknown = true;
    }
    free(nodes);
    return sum;
}

static CUdevice current_device(void) {
    CUdevice device = 0;
    if (ph_driver.cuCtxGetDevice) PH_ASK(cuCtxGetDevice)(&device);
    return device;
}

static struct room make_room(CUgraph graph) {
    ph_attach();
    struct room room = { .cuda_device = current_device(), .device = ph_current_ordinal() };
    room.bytes = graph_bytes(graph, &room, 0);
    uint64_t kept = room.bytes ? ph_graph_cache_kept(room.device) : 0;
    room.reserved = room.bytes > kept ? room.bytes - kept : 0;
    room.granted = room.reserved == 0 || ph_reserve_or_reconcile(room.device, room.reserved);
    return room;
}

static CUresult settle(CUresult result, struct room room, const CUgraphExec *exec) {
    bool holds = result == CUDA_SUCCESS && (room.bytes || room.unknown);
    bool told = holds && ph_graph_cache_follow(room.cuda_device, room.device);
    if (holds)
        ph_allocations_add((struct ph_entry){ .key = (uintptr_t)*exec, .holding = PH_GRAPH, .device = room.device,
                                         .bytes = told ? 0 : room.reserved, .other = (uint64_t)room.cuda_device });
    if (!holds || told) ph_release(room.device, room.reserved);
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
    bool known = ph_allocations_take(PH_GRAPH, (uintptr_t)exec, &entry);
    CUresult result = PH_NEXT(call, cuGraphExecDestroy)(exec);
    if (known && result == CUDA_SUCCESS) {
        /* The driver may keep all of it: that is believed until it tells. */
        if (!ph_graph_cache_follow((CUdevice)entry.other, entry.device)) ph_graph_cache_keep(entry.device, entry.bytes);
        ph_release(entry.device, entry.bytes);
    } else if (known) {
        ph_allocations_add(entry);
    }
    return result;
}

CUresult ph_graph_mem_trim(const struct ph_call *call, CUdevice device) {
    CUresult result = PH_NEXT(call, cuDeviceGraphMemTrim)(device);
    if (result == CUDA_SUCCESS) ph_graph_cache_follow(device, ph_ordinal(device));
    return result;
}
