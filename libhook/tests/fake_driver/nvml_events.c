/* Event sets: what happens on a registered GPU after it was registered, in the order of the state file's numbers. */
#include "nvml_view.h"

#include <stdlib.h>
#include <time.h>

enum { LOOK_AGAIN_MS = 10 };
#define SUPPORTED (nvmlEventTypeXidCriticalError | nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError)

struct watched {
    struct nv_address address;
    nvmlDevice_t device;
    unsigned long long types, seen; /* seen: number of the last event that was there or delivered */
};
struct nvmlEventSet_st {
    struct watched watched[NV_GPUS];
    int count;
    struct nvmlEventSet_st *next;
};
static struct nvmlEventSet_st *sets;

static bool known(nvmlEventSet_t set) {
    for (const struct nvmlEventSet_st *s = sets; s; s = s->next)
        if (s == set) return true;
    return false;
}

nvmlReturn_t fk_nvmlEventSetCreate(const struct fk_call *call, nvmlEventSet_t *set) {
    (void)call;
    if (!set) return NVML_ERROR_INVALID_ARGUMENT;
    struct nvmlEventSet_st *made = calloc(1, sizeof *made);
    if (!made) return NVML_ERROR_MEMORY;
    made->next = sets;
    *set = sets = made;
    return NVML_SUCCESS;
}

nvmlReturn_t fk_nvmlEventSetFree(const struct fk_call *call, nvmlEventSet_t set) {
    (void)call;
    if (!known(set)) return NVML_ERROR_INVALID_ARGUMENT;
    struct nvmlEventSet_st **at = &sets;
    while (*at != set) at = &(*at)->next;
    *at = set->next;
    free(set);
    return NVML_SUCCESS;
}

void nv_free_event_sets(void) {
    while (sets) {
        struct nvmlEventSet_st *first = sets;
        sets = first->next;
        free(first);
    }
}

nvmlReturn_t fk_nvmlDeviceGetSupportedEventTypes(const struct fk_call *call, nvmlDevice_t device, unsigned long long *eventTypes) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = eventTypes ? nv_gpu_of(call, device, &gpu) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS) *eventTypes = SUPPORTED;
    return result;
}

static unsigned long long last_event(int gpu) {
    unsigned long long last = 0;
    for (int i = 0; i < nv_view.event_count; i++)
        if (nv_view.event[i].gpu == gpu && nv_view.event[i].number > last) last = nv_view.event[i].number;
    return last;
}

nvmlReturn_t fk_nvmlDeviceRegisterEvents(const struct fk_call *call, nvmlDevice_t device, unsigned long long eventTypes, nvmlEventSet_t set) {
    const struct nv_gpu *gpu;
    if (!known(set)) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = nv_gpu_of(call, device, &gpu);
    if (result != NVML_SUCCESS) return result;
    if (eventTypes & ~SUPPORTED) return NVML_ERROR_NOT_SUPPORTED;
    int at = 0;
    while (at < set->count && set->watched[at].device != device) at++;
    if (at == set->count) set->watched[set->count++] = (struct watched){ gpu->address, device, 0, last_event(nv_index_of(gpu)) };
    set->watched[at].types |= eventTypes;
    return NVML_SUCCESS;
}

static const struct nv_event *next_event(const struct watched *w, int gpu) {
    const struct nv_event *next = NULL;
    for (int i = 0; i < nv_view.event_count; i++) {
        const struct nv_event *e = &nv_view.event[i];
        if (e->gpu == gpu && e->number > w->seen && (e->type & w->types) && (!next || e->number < next->number)) next = e;
    }
    return next;
}

/* SUCCESS with an event, TIMEOUT without one. Events that were told before the GPU was lost come first. */
static nvmlReturn_t deliver(const struct fk_call *call, nvmlEventSet_t set, nvmlEventData_t *data) {
    nvmlReturn_t result = NVML_ERROR_TIMEOUT;
    for (int i = 0; i < set->count; i++) {
        struct watched *w = &set->watched[i];
        const struct nv_event *event = NULL;
        for (int gpu = 0; gpu < nv_view.gpu_count && !event; gpu++)
            if (nv_same_address(&nv_view.gpu[gpu].address, &w->address)) event = next_event(w, gpu);
        if (event) {
            w->seen = event->number;
            *data = (nvmlEventData_t){ w->device, event->type, event->data, event->gi, event->ci };
            return NVML_SUCCESS;
        }
        const struct nv_gpu *gpu;
        if (nv_gpu_of(call, w->device, &gpu) == NVML_ERROR_GPU_IS_LOST) result = NVML_ERROR_GPU_IS_LOST;
    }
    return result;
}

static long long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

nvmlReturn_t fk_nvmlEventSetWait_v2(const struct fk_call *call, nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms) {
    if (!data) return NVML_ERROR_INVALID_ARGUMENT;
    long long end = milliseconds() + timeoutms;
    for (;;) {
        if (!known(set)) return NVML_ERROR_INVALID_ARGUMENT; /* freed meanwhile, or never one */
        nvmlReturn_t result = deliver(call, set, data);
        if (result != NVML_ERROR_TIMEOUT || milliseconds() >= end) return result;
        nv_pause(LOOK_AGAIN_MS);
        if ((result = nv_refresh()) != NVML_SUCCESS) return result;
    }
}
nvmlReturn_t fk_nvmlEventSetWait(const struct fk_call *call, nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms) {
    return fk_nvmlEventSetWait_v2(call, set, data, timeoutms);
}
