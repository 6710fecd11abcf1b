/* The node's file: whatever it holds, it is read within bounds, and what is accepted is within range. */
#include "config.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ph_config config;
    char *text = malloc(size); /* exactly as long, so that ASan sees one byte too many */
    if (size && !text) return 0;
    if (size) memcpy(text, data, size);
    ph_log_level = -1;
    ph_config_defaults(&config);
    const char *problem = ph_config_from_text(&config, text, size);
    if (problem && strncmp(problem, "line ", 5) != 0) abort();
    for (int i = 0; i < PH_MAX_DEVICES; i++)
        if (config.core_limit[i] >= 100) abort();
    if (config.burst_ns < 1000000 || config.in_flight_ns < 1000000 || config.window_period_ns < 1000000) abort();
    if (config.window_start_percent < 0 || config.window_start_percent > 99 || config.mode > PH_MODE_MPS) abort();
    if (config.region_path[0] != '/' || !memchr(config.region_path, 0, sizeof config.region_path)) abort();
    free(text);
    return 0;
}
