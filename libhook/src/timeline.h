/* A context's events and its place on the host's clock: one event's host time is known, every other's follows
 * from the driver's elapsed time between the two. */
#pragma once

#include "hooks.h"

struct ph_timeline;
/* The context's; made when it is met. NULL only without memory. */
struct ph_timeline *ph_timeline_of(CUcontext context);
/* Makes sure that events can be placed: the context's first event is waited for, once. `stream` is idle or the
 * program's first; false where the driver makes no events. */
bool ph_timeline_ready(struct ph_timeline *timeline, CUstream stream);
/* A recorded event on `stream`, or NULL. */
CUevent ph_timeline_record(struct ph_timeline *timeline, CUstream stream);
void ph_timeline_give_back(struct ph_timeline *timeline, CUevent event);
/* Host ns of a finished event, never after `now`. */
int64_t ph_timeline_host(struct ph_timeline *timeline, CUevent event, int64_t now);
/* The last use of a finished event: given back, or the new base when the old one is too far away. */
void ph_timeline_passed(struct ph_timeline *timeline, CUevent event, int64_t now);
bool ph_timeline_belongs(struct ph_timeline *timeline, CUcontext context);
/* The context ends, and its events with it. */
void ph_timeline_forget(CUcontext context);
void ph_timeline_after_fork(void);
int64_t ph_elapsed_ns(CUevent from, CUevent to); /* negative: the driver cannot say */
