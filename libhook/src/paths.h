/* Where the node's word on limits is found, and who must own it. The test build has a source of its own. */
#pragma once

#include <sys/types.h>

const char *ph_node_path(void);
const char *ph_config_path(void);
uid_t ph_config_owner(void);
