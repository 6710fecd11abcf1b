/* Where the node's word on limits is found. Fixed at build time: an environment that could move it could raise limits. */
#include "config.h"

const char *ph_config_path(void) { return PH_CONFIG_PATH; }
uid_t ph_config_owner(void) { return 0; }
