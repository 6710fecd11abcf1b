#include "timeline.h"

#include "calibration.h"
#include "driver.h"
#include "locks.h"

#include <stdlib.h>

/* Elapsed times are float milliseconds: beyond this the base moves along, or they lose precision. */
static const int64_t REBASE_NS = 2000000000;

struct ph_timeline {
    CUcontext context; /* NULL: ended, free for the next */
    CUevent base;
    struct ph_calibration calibration; /* of times since the base */
    CUevent *spare;
    int spares, room;
    struct ph_timeline *next;
};
static struct ph_mutex mutex = PH_MUTEX(TIMELINE); /* all of the above; of the driver, only cuEventElapsedTime is called while it is held, which does not wait */
static struct ph_timeline *timelines;

struct ph_timeline *ph_timeline_of(CUcontext context) {
    struct ph_timeline *free_one = NULL, *found;
    ph_mutex_lock(&mutex);
    for (found = timelines; found && found->context != context; found = found->next)
        if (!found->context) free_one = found;
    if (!found && (found = free_one)) found->context = context;
    if (!found && (found = calloc(1, sizeof *found))) {
        found->context = context;
        found->next = timelines;
        timelines = found;
    }
    ph_mutex_unlock(&mutex);
    return found;
}

bool ph_timeline_belongs(struct ph_timeline *timeline, CUcontext context) {
    ph_mutex_lock(&mutex);
    bool belongs = timeline->context == context;
    ph_mutex_unlock(&mutex);
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
    ph_mutex_lock(&mutex);
    give(timeline, event);
    ph_mutex_unlock(&mutex);
}

static CUevent create(struct ph_timeline *timeline) {
    CUevent event = NULL;
    CUcontext current = ph_current_context();
    bool other = current != timeline->context && ph_driver.cuCtxPushCurrent_v2 && ph_driver.cuCtxPopCurrent_v2;
    if (other && PH_ASK(cuCtxPushCurrent_v2)(timeline->context) != CUDA_SUCCESS) return NULL;
    if (PH_ASK(cuEventCreate)(&event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) event = NULL;
    if (other) PH_ASK(cuCtxPopCurrent_v2)(&current);
    return event;
}

CUevent ph_timeline_record(struct ph_timeline *timeline, CUevent again, CUstream stream) {
    CUevent event = again;
    ph_mutex_lock(&mutex);
    if (!event && timeline->spares) event = timeline->spare[--timeline->spares];
    ph_mutex_unlock(&mutex);
    if (!event && !(event = create(timeline))) return NULL;
    ph_driver_use(PH_WAITS); /* for room in the stream's queue */
    if (ph_driver.cuEventRecord(event, stream) == CUDA_SUCCESS) return event;
    if (event != again) ph_timeline_give_back(timeline, event);
    return NULL;
}

bool ph_elapsed(CUevent from, CUevent to, int64_t *ns) {
    float milliseconds = 0;
    if (!from || PH_ASK(cuEventElapsedTime)(&milliseconds, from, to) != CUDA_SUCCESS) return false;
    *ns = (int64_t)((double)milliseconds * 1e6);
    return true;
}

int64_t ph_timeline_host(struct ph_timeline *timeline, CUevent event, int64_t after, int64_t before) {
    int64_t gpu = 0, at = after;
    ph_mutex_lock(&mutex);
    if (ph_elapsed(timeline->base, event, &gpu)) {
        ph_calibration_learn(&timeline->calibration, gpu, after, before);
        at = ph_calibration_place(&timeline->calibration, gpu, after, before);
    }
    ph_mutex_unlock(&mutex);
    return at;
}

void ph_timeline_passed(struct ph_timeline *timeline, CUevent event, int64_t after, int64_t before) {
    int64_t gpu = 0;
    ph_mutex_lock(&mutex);
    bool told = ph_elapsed(timeline->base, event, &gpu);
    if (!timeline->base) timeline->calibration.known = false;
    if (told || !timeline->base) ph_calibration_learn(&timeline->calibration, gpu, after, before);
    if (!timeline->base || gpu > REBASE_NS) {
        if (timeline->base) give(timeline, timeline->base);
        timeline->base = event;
        ph_calibration_move(&timeline->calibration, gpu);
    } else {
        give(timeline, event);
    }
    ph_mutex_unlock(&mutex);
}

void ph_timeline_forget(CUcontext context) {
    ph_mutex_lock(&mutex);
    for (struct ph_timeline *t = timelines; t; t = t->next) {
        if (t->context != context) continue;
        t->context = NULL;
        t->base = NULL;
        t->spares = 0;
    }
    ph_mutex_unlock(&mutex);
}

void ph_timeline_after_fork(void) {
    ph_mutex_after_fork(&mutex);
    timelines = NULL; /* the parent's contexts and events mean nothing here */
}
