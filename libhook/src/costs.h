/* What a kernel (with its grid) or a graph usually costs. Learned from batches of one launch: the first four,
 * then one in 512. The estimate bounds what may be in flight unmeasured and is the bill where events cannot be.
 * Threads share the table without a lock: two kernels that meet in one place spoil each other's estimate for a
 * while, never a measured bill. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ph_cost;
struct ph_cost *ph_cost_of(const void *key, uint64_t size);
int64_t ph_cost_ns(const struct ph_cost *cost);
bool ph_cost_believed(const struct ph_cost *cost);
/* This launch shall be measured alone. */
bool ph_cost_wants_sample(const struct ph_cost *cost);
void ph_cost_count_launch(struct ph_cost *cost);
void ph_cost_learn(struct ph_cost *cost, int64_t busy_ns);
