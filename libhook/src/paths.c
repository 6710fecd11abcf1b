/* Where the node's word on limits is found. Fixed at build time: an environment that could move it could raise limits. */
#include "paths.h"

/* HAMi's device plugin mounts the node's folder `vgpu/license`, where there is one, read-only as /tmp/license into every
 * container that it starts. The agent keeps it. */
const char *ph_node_path(void) { return "/tmp/license/hook.conf"; }
const char *ph_config_path(void) { return PH_CONFIG_PATH; }
uid_t ph_config_owner(void) { return 0; }
