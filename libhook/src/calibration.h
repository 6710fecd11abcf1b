/* Where a GPU's clock stands against the host's. Nothing is waited for: every event that was recorded at one host time
 * and seen to be over at a later one says between which bounds the two clocks are apart, and each bound corrects the
 * other side. Crystals drift (50-200 ppm are reported), so the bounds widen with time; a bound that contradicts the
 * other (the host slept, a clock was set) begins anew. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    PH_DRIFT_PPM = 1500,     /* more than any clock of a GPU was seen to be off */
    PH_RESOLUTION_NS = 500,  /* of events, says CUDA's documentation of cuEventElapsedTime */
};

struct ph_calibration {
    bool known;
    int64_t low, high; /* ns that the host's clock is ahead of the GPU's, as of `at` */
    int64_t at;        /* host ns */
};

/* An event of `gpu` was reached at a host time in [after, before]. */
static inline void ph_calibration_learn(struct ph_calibration *c, int64_t gpu, int64_t after, int64_t before) {
    int64_t passed = before > c->at ? before - c->at : 0, drift = passed / 1000000 * PH_DRIFT_PPM + passed % 1000000 * PH_DRIFT_PPM / 1000000 + 1;
    int64_t unsure = PH_RESOLUTION_NS + (gpu < 0 ? -gpu : gpu) / (1 << 23); /* it is told as a float of milliseconds */
    int64_t low = c->low - drift, high = c->high + drift, lowest = after - gpu - unsure, highest = before - gpu + unsure;
    if (lowest > low || !c->known) low = lowest;
    if (highest < high || !c->known) high = highest;
    if (low > high) low = lowest, high = highest;
    *c = (struct ph_calibration){ .known = true, .low = low, .high = high, .at = before > c->at || !c->known ? before : c->at };
}

/* Host ns of an event that was reached in [after, before], as early as can be: as the bound gets better, what comes later
 * is placed later. Placed by the other bound, later work would slide over earlier work, and be taken for the same. */
static inline int64_t ph_calibration_place(const struct ph_calibration *c, int64_t gpu, int64_t after, int64_t before) {
    int64_t at = c->known ? gpu + c->low : after;
    return at < after ? after : at > before ? before : at;
}

/* GPU times are told from an event `ns` later than before. */
static inline void ph_calibration_move(struct ph_calibration *c, int64_t ns) {
    c->low += ns;
    c->high += ns;
}
