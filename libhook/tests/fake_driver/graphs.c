/* Graphs. One runs as one piece of work; its memory stays with the device until it is trimmed. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct exec {
    int64_t ns;
    uint64_t bytes;
    int device;
};
struct fk_node *fk_add_node(struct fk_graph *graph) {
    if (graph->count == graph->room) {
        graph->room = graph->room ? graph->room * 2 : 8;
        graph->nodes = realloc(graph->nodes, graph->room * sizeof *graph->nodes);
    }
    struct fk_node *node = &graph->nodes[graph->count++];
    memset(node, 0, sizeof *node);
    return node;
}

bool fk_pool_stream_alloc(struct fk_stream *stream, uint64_t bytes) {
    struct fk_node *node = fk_add_node(stream->capture);
    node->type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
    node->memory.bytesize = bytes;
    node->memory.poolProps.location.id = fk_current->ordinal;
    return true;
}

CUresult fk_cuGraphCreate(const struct fk_call *call, CUgraph *graph, unsigned int flags) {
    (void)call, (void)flags;
    *graph = calloc(1, sizeof(struct fk_graph));
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphDestroy(const struct fk_call *call, CUgraph graph) {
    (void)call;
    free(((struct fk_graph *)graph)->nodes);
    free(graph);
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphAddKernelNode_v2(const struct fk_call *call, CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                                    size_t count, const CUDA_KERNEL_NODE_PARAMS *params) {
    (void)call, (void)dependencies, (void)count;
    struct fk_node *fresh = fk_add_node((struct fk_graph *)graph);
    fresh->type = CU_GRAPH_NODE_TYPE_KERNEL;
    fresh->ns = fk_duration(params->func, params->kernelParams);
    *node = NULL;
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphAddMemAllocNode(const struct fk_call *call, CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                                   size_t count, CUDA_MEM_ALLOC_NODE_PARAMS *params) {
    (void)call, (void)dependencies, (void)count;
    struct fk_node *fresh = fk_add_node((struct fk_graph *)graph);
    fresh->type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
    fresh->memory = *params;
    params->dptr = fk_address(params->bytesize);
    *node = NULL;
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphGetNodes(const struct fk_call *call, CUgraph graph, CUgraphNode *nodes, size_t *count) {
    (void)call;
    struct fk_graph *g = (struct fk_graph *)graph;
    for (size_t i = 0; nodes && i < *count && i < g->count; i++) nodes[i] = (CUgraphNode)&g->nodes[i];
    *count = g->count;
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphNodeGetType(const struct fk_call *call, CUgraphNode node, CUgraphNodeType *type) {
    (void)call;
    *type = ((struct fk_node *)node)->type;
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphMemAllocNodeGetParams(const struct fk_call *call, CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *params) {
    (void)call;
    *params = ((struct fk_node *)node)->memory;
    return CUDA_SUCCESS;
}
/* Graphs launched one after another in a stream use the same memory; those of different streams may run at once. */
static uint64_t graph_reserved[FG_DEVICES];
enum { USERS = 64 };
static struct {
    CUstream stream;
    uint64_t bytes;
} user[FG_DEVICES][USERS];

static bool reserve(int device, uint64_t bytes) {
    if (bytes <= graph_reserved[device]) return true;
    if (!fg_memory_take(device, bytes - graph_reserved[device])) return false;
    graph_reserved[device] = bytes;
    return true;
}
static bool use(int device, CUstream stream, uint64_t bytes) {
    uint64_t sum = 0;
    for (int i = 0, met = 0; i < USERS; i++) {
        if (!met && bytes && (user[device][i].bytes == 0 || user[device][i].stream == stream)) {
            met = 1;
            user[device][i].stream = stream;
            if (user[device][i].bytes < bytes) user[device][i].bytes = bytes;
        }
        sum += user[device][i].bytes;
    }
    return reserve(device, sum);
}

CUresult fk_cuGraphInstantiateWithFlags(const struct fk_call *call, CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    (void)call, (void)flags;
    const struct fk_graph *g = (const struct fk_graph *)graph;
    struct exec *fresh = calloc(1, sizeof *fresh);
    fresh->device = fk_current ? fk_current->device : 0;
    for (size_t i = 0; i < g->count; i++) {
        fresh->ns += g->nodes[i].ns;
        fresh->bytes += g->nodes[i].memory.bytesize;
    }
    if (!reserve(fresh->device, fresh->bytes)) {
        free(fresh);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *exec = (CUgraphExec)fresh;
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphInstantiateWithParams(const struct fk_call *call, CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
    return fk_cuGraphInstantiateWithFlags(call, exec, graph, params->flags);
}
CUresult fk_cuGraphInstantiate(const struct fk_call *call, CUgraphExec *exec, CUgraph graph, CUgraphNode *error, char *text, size_t size) {
    (void)error, (void)text, (void)size;
    return fk_cuGraphInstantiateWithFlags(call, exec, graph, 0);
}
CUresult fk_cuGraphExecDestroy(const struct fk_call *call, CUgraphExec exec) {
    (void)call;
    free(exec); /* its memory stays with the device's graph pool until trimmed */
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetGraphMemAttribute(const struct fk_call *call, CUdevice device, CUgraphMem_attribute attribute, void *value) {
    (void)call, (void)attribute;
    *(cuuint64_t *)value = graph_reserved[fk_gpu_of(device)];
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGraphMemTrim(const struct fk_call *call, CUdevice device) {
    (void)call;
    int gpu = fk_gpu_of(device);
    fg_memory_give(gpu, graph_reserved[gpu]);
    graph_reserved[gpu] = 0;
    memset(user[gpu], 0, sizeof user[gpu]);
    return CUDA_SUCCESS;
}
CUresult fk_cuGraphLaunch(const struct fk_call *call, CUgraphExec exec, CUstream stream) {
    const struct exec *e = (const struct exec *)exec;
    return use(e->device, stream, e->bytes) ? fk_run(stream, call->per_thread, e->ns) : CUDA_ERROR_OUT_OF_MEMORY;
}
