/* A tenant's environment beside the node's file: nothing in it raises a limit. Input: NAME=VALUE lines. */
#include "config.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

static char text[8192];

static const char *get(const char *name) {
    size_t length = strlen(name);
    for (char *line = text; *line; line += strlen(line) + 1)
        if (strncmp(line, name, length) == 0 && line[length] == '=') return line + length + 1;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char node[] = "memory_limit = 3Gi\ncore_limit = 30\nburst_ms = 20\nin_flight_ms = 4\n";
    struct ph_config environment, file;
    size_t length = size < sizeof text - 2 ? size : sizeof text - 2;
    memcpy(text, data, length);
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\n' || text[i] == 0) text[i] = i && text[i - 1] == 0 ? '-' : 0;
    text[length] = text[length + 1] = 0;
    ph_log_level = -1;
    ph_config_defaults(&environment);
    ph_config_from_environment(&environment, get);
    ph_config_defaults(&file);
    if (ph_config_from_text(&file, node, sizeof node - 1)) abort();
    ph_config_combine(&file, &environment);
    for (int i = 0; i < PH_MAX_DEVICES; i++)
        if (file.memory_limit[i] == 0 || file.memory_limit[i] > 3ull << 30 || file.core_limit[i] == 0 || file.core_limit[i] > 30) abort();
    if (file.burst_ns > 20000000 || file.in_flight_ns > 4000000) abort();
    if (file.mode != PH_MODE_FIXED && file.mode != PH_MODE_BEST_EFFORT) abort();
    if (environment.region_path[0] != '/' || !memchr(environment.region_path, 0, sizeof environment.region_path)) abort();
    return 0;
}
