/* The share of GPU time handed to MPS (compute_mode mps). MPS reads its percentage when a program initialises CUDA. Without a daemon the hook waits instead: a limit that
 * nobody enforces would be none. */
#pragma once

#include <stdbool.h>

void ph_mps_hand_share(void); /* before CUDA is initialised */
bool ph_mps_take_share_back(void); /* after it: true where MPS does not serve, and the mode has changed */
