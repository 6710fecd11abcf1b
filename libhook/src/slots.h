/* Slots of the region: whose they are, claiming one, and clearing those of the dead. */
#pragma once

#include "region.h"

bool ph_region_claim_slot(void);
/* Gives back what dead processes held. Returns how many slots were freed. */
int ph_region_reap(void);
/* The same for those alone that seem to have died with GPU time unpaid. */
void ph_region_reap_unbilled(int64_t now);
/* In the child, after the region: the parent's slot is not ours. */
void ph_slots_after_fork(void);
