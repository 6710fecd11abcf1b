/* What the driver keeps for graphs beyond the graphs that exist. What counts is what it says it has reserved for them:
 * those that run one after another in a stream use the same memory, and it stays reserved after they are destroyed, until
 * it is trimmed. */
#pragma once

#include "calls.h"

uint64_t ph_graph_cache_kept(int device); /* bytes booked */
/* Books what the driver says. False: it does not tell. */
bool ph_graph_cache_follow(CUdevice cuda_device, int device);
/* Books more, as far as the driver was ever asked: it may keep all of a graph that is gone. */
void ph_graph_cache_keep(int device, uint64_t bytes);
void ph_graphs_refresh(void); /* asks again, where it did not tell */
