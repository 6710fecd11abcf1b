/* For tests: the trusted file's place and owner are the test's. Never part of what is shipped. */
#include "paths.h"

#include <stdlib.h>
#include <unistd.h>

static const char *from(const char *variable) {
    const char *path = getenv(variable);
    return path ? path : "/nonexistent";
}
const char *ph_node_path(void) { return from("PH_TEST_NODE"); }
const char *ph_config_path(void) { return from("PH_TEST_CONFIG"); }
uid_t ph_config_owner(void) { return geteuid(); }
