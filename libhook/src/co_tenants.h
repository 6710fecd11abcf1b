/* The other containers on a GPU. Each writes into its own region alone; the node shows all regions in one folder
 * (`activity`), in which this process reads when the GPU worked for the others. They are read by pread and never mapped:
 * a tenant that cuts its file ends nobody else's program. Rings go by the GPU's UUID, whatever a container sees of the
 * machine. What is read may be anything: it is bounded, and says only that somebody claims to have been busy. */
#pragma once

#include "activity.h"

void ph_co_tenants_open(void); /* looks for the folder once; does nothing without the setting */
bool ph_co_tenants_known(void);
/* Reads what the others have posted on a GPU since the last time. Cheap when called again within half a millisecond. */
void ph_co_tenants_look(int device, int64_t now);
/* What they had posted at the last look; NULL where they are unknown. */
const struct ph_activity_ring *ph_co_tenants_ring(int device);
/* They worked during the last 20 ms. */
bool ph_co_tenants_active(int device, int64_t now);
void ph_co_tenants_after_fork(void);
