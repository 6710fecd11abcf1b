/* For tests: the trusted file's place and owner are the test's. Never part of what is shipped. */
#include "config.h"

#include <stdlib.h>
#include <unistd.h>

const char *ph_config_path(void) {
    const char *path = getenv("PH_TEST_CONFIG");
    return path ? path : "/nonexistent";
}
uid_t ph_config_owner(void) { return geteuid(); }
