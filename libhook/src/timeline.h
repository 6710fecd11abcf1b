/* A context's events and its place on the host's clock: GPU times are elapsed times from one event, the base, and
 * calibration.h says where the base lies. The base is the first of our own events that is over; nothing waits for it. */
#pragma once

#include "calls.h"

struct ph_timeline;
/* The context's; made when it is met. NULL only without memory. */
struct ph_timeline *ph_timeline_of(CUcontext context);
/* A recorded event on `stream`, or NULL. `again`: an event of ours to be recorded once more, or NULL. */
CUevent ph_timeline_record(struct ph_timeline *timeline, CUevent again, CUstream stream);
void ph_timeline_give_back(struct ph_timeline *timeline, CUevent event);
/* Host ns of an event that is over, reached in [after, before]. */
int64_t ph_timeline_host(struct ph_timeline *timeline, CUevent event, int64_t after, int64_t before);
/* The last use of an event that is over, reached in [after, before]: given back, or the new base where there is none or
 * the old one is too far away. */
void ph_timeline_passed(struct ph_timeline *timeline, CUevent event, int64_t after, int64_t before);
bool ph_timeline_belongs(struct ph_timeline *timeline, CUcontext context);
/* The context ends, and its events with it. */
void ph_timeline_forget(CUcontext context);
void ph_timeline_after_fork(void);
bool ph_elapsed(CUevent from, CUevent to, int64_t *ns); /* false: the driver cannot say */
