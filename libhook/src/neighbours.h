/* The other containers on a GPU: known where the node provides a file in which every container posts when the GPU
 * worked for it (`activity`), unknown otherwise. */
#pragma once

#include "activity.h"

void ph_neighbours_open(void); /* once; does nothing without the setting */
bool ph_neighbours_known(void);
/* Where this process posts: the node's ring, else the container's own. May be NULL. */
struct ph_activity_ring *ph_neighbours_ring(int device);
/* They worked during the last 20 ms. */
bool ph_neighbours_active(int device, int64_t now);
