/* Batches that are closed: waiting for their end event, then billed. */
#pragma once

#include "config.h"
#include "region.h"
#include "streams.h"

/* Takes over `work`, closed by `end`. `late`: the stream was idle when the end was recorded. */
void ph_measurement_add(struct ph_batch *batch, CUevent end, bool late);
/* Ns of estimated work launched and not yet measured, and how many streams have a batch open. */
extern struct ph_in_flight {
    int64_t ns, streams;
} __attribute__((aligned(64))) ph_flights[PH_MAX_DEVICES];
static inline int64_t ph_in_flight(int device) { return __atomic_load_n(&ph_flights[device].ns, __ATOMIC_RELAXED); }
static inline void ph_in_flight_add(int device, int64_t ns) {
    __atomic_add_fetch(&ph_flights[device].ns, ns, __ATOMIC_RELAXED);
}
/* What may be queued unmeasured: for each stream as much as sixteen have, or many streams could have but few launches
 * between two events. */
enum { PH_STREAMS_IN_FLIGHT = 16 };
static inline int64_t ph_in_flight_most(int device) {
    int64_t streams = __atomic_load_n(&ph_flights[device].streams, __ATOMIC_RELAXED);
    return ph_config.in_flight_ns * (streams > PH_STREAMS_IN_FLIGHT ? streams : PH_STREAMS_IN_FLIGHT) / PH_STREAMS_IN_FLIGHT;
}
/* Something is launched; others may have to pay for it if this process dies. */
void ph_measurements_work_begins(int device, int64_t now);
/* Work that no events will tell about: its estimate is the bill. */
void ph_measurement_bill_estimate(struct ph_batch *batch, const struct ph_work *work);
/* Reads finished measurements and charges what has become certain. One thread at a time; a launching thread
 * that finds another at it goes on, the housekeeper waits. */
void ph_measurements_read(bool from_housekeeper);
/* Every measurement of a dying context, billed by estimate. */
void ph_measurements_forget(CUcontext context);
bool ph_measurements_pending(void);
bool ph_measurements_running(int device); /* the GPU has begun something that is not over */
int64_t ph_measurements_overdue(int device); /* ns charged for what runs, and for much longer than expected */
int64_t ph_measurements_progress(int device);   /* host ns at which something was last seen to begin or end */
unsigned int ph_measurements_count(void); /* ever added; tells the housekeeper that there was work */
void ph_measurements_after_fork(void);
