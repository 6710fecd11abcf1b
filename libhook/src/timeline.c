#include "timeline.h"

#include "driver.h"
#include "limiter.h"

#include <pthread.h>
#include <stdlib.h>

/* Elapsed times are float milliseconds: beyond this the base moves along, or they lose precision. */
static const int64_t REBASE_NS = 2000000000;

struct ph_timeline {
    CUcontext context; /* NULL: ended, free for the next */
    CUevent base;
    int64_t base_host;
    CUevent *spare;
    int spares, room;
    struct ph_timeline *next;
};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all of the above; nothing waits while it is held */
static struct ph_timeline *timelines;

struct ph_timeline *ph_timeline_of(CUcontext context) {
    struct ph_timeline *free_one = NULL, *found;
    pthread_mutex_lock(&mutex);
    for (found = timelines; found && found->context != context; found = found->next)
        if (!found->context) free_one = found;
    if (!found && (found = free_one)) found->context = context;
    if (!found && (found = calloc(1, sizeof *found))) {
        found->context = context;
        found->next = timelines;
        timelines = found;
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

bool ph_timeline_belongs(struct ph_timeline *timeline, CUcontext context) {
    pthread_mutex_lock(&mutex);
    bool belongs = timeline->context == context;
    pthread_mutex_unlock(&mutex);
    return belongs;
}

static void give(struct ph_timeline *timeline, CUevent event) { /* with the mutex held */
    if (timeline->spares == timeline->room) {
        int room = timeline->room ? timeline->room * 2 : 32;
        CUevent *bigger = realloc(timeline->spare, (size_t)room * sizeof(CUevent));
        if (!bigger) return;
        timeline->spare = bigger;
        timeline->room = room;
    }
    timeline->spare[timeline->spares++] = event;
}

void ph_timeline_give_back(struct ph_timeline *timeline, CUevent event) {
    pthread_mutex_lock(&mutex);
    give(timeline, event);
    pthread_mutex_unlock(&mutex);
}

CUevent ph_timeline_record(struct ph_timeline *timeline, CUstream stream) {
    CUevent event = NULL;
    pthread_mutex_lock(&mutex);
    if (timeline->spares) event = timeline->spare[--timeline->spares];
    pthread_mutex_unlock(&mutex);
    if (!event && ph_driver.cuEventCreate(&event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) return NULL;
    if (ph_driver.cuEventRecord(event, stream) == CUDA_SUCCESS) return event;
    ph_timeline_give_back(timeline, event);
    return NULL;
}

bool ph_timeline_ready(struct ph_timeline *timeline, CUstream stream) {
    pthread_mutex_lock(&mutex);
    bool ready = timeline->base != NULL;
    pthread_mutex_unlock(&mutex);
    if (ready) return true;
    CUevent base = ph_timeline_record(timeline, stream);
    if (!base) return false;
    ready = PH_REAL(cuEventSynchronize)(base) == CUDA_SUCCESS;
    int64_t now = ph_now();
    pthread_mutex_lock(&mutex);
    if (ready && !timeline->base) { /* another thread may have been faster */
        timeline->base = base;
        timeline->base_host = now;
    } else {
        give(timeline, base);
    }
    pthread_mutex_unlock(&mutex);
    return ready;
}

int64_t ph_elapsed_ns(CUevent from, CUevent to) {
    float milliseconds = 0;
    if (ph_driver.cuEventElapsedTime(&milliseconds, from, to) != CUDA_SUCCESS) return -1;
    return (int64_t)((double)milliseconds * 1e6);
}

int64_t ph_timeline_host(struct ph_timeline *timeline, CUevent event, int64_t now) {
    pthread_mutex_lock(&mutex);
    int64_t since = ph_elapsed_ns(timeline->base, event);
    int64_t at = timeline->base_host + (since > 0 ? since : 0);
    pthread_mutex_unlock(&mutex);
    return at < now ? at : now; /* the clocks drift: what is over lies in the past */
}

void ph_timeline_passed(struct ph_timeline *timeline, CUevent event, int64_t now) {
    pthread_mutex_lock(&mutex);
    int64_t since = ph_elapsed_ns(timeline->base, event);
    if (since > REBASE_NS) {
        give(timeline, timeline->base);
        timeline->base = event;
        timeline->base_host += since;
        if (timeline->base_host > now) timeline->base_host = now;
    } else {
        give(timeline, event);
    }
    pthread_mutex_unlock(&mutex);
}

void ph_timeline_forget(CUcontext context) {
    pthread_mutex_lock(&mutex);
    for (struct ph_timeline *t = timelines; t; t = t->next) {
        if (t->context != context) continue;
        t->context = NULL;
        t->base = NULL;
        t->spares = 0;
    }
    pthread_mutex_unlock(&mutex);
}

void ph_timeline_after_fork(void) {
    pthread_mutex_init(&mutex, NULL);
    timelines = NULL; /* the parent's contexts and events mean nothing here */
}
