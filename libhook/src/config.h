/* What this process is limited to: a root-owned file of the node first, the environment second.
 * The environment may lower what the file says, never raise it. Parsing is pure; config_load does the IO. */
#pragma once

#include "region.h"

#include <sys/types.h>

enum ph_mode {
    PH_MODE_FIXED,       /* never more than the share */
    PH_MODE_BURST,       /* more than the share while no other container uses the GPU */
    PH_MODE_BEST_EFFORT, /* only while no other container uses the GPU */
    PH_MODE_WINDOWS,     /* only in this container's window of a fixed period */
    PH_MODE_MPS,         /* the share is enforced by MPS (active-thread percentage), not by waiting; else as FIXED */
};
enum ph_context_memory {
    PH_CONTEXT_FLAT,     /* context_bytes for each context */
    PH_CONTEXT_MEASURED, /* what NVML says this process holds beyond its allocations: contexts, code, reserves */
    PH_CONTEXT_OFF,      /* nothing */
};
enum ph_policy { PH_POLICY_DEFAULT, PH_POLICY_FORCE, PH_POLICY_DISABLE };

struct ph_config {
    uint64_t memory_limit[PH_MAX_DEVICES]; /* bytes, 0 = none */
    uint64_t core_limit[PH_MAX_DEVICES];   /* percent of GPU time, 0 = none */
    enum ph_mode mode;
    enum ph_policy policy; /* core_policy; GPU_CORE_UTILIZATION_POLICY */
    int64_t burst_ns;      /* unused GPU time that may be saved up */
    int64_t in_flight_ns;  /* work that may be queued before it has been measured */
    int64_t window_period_ns;
    int window_start_percent;
    enum ph_context_memory context_memory;
    uint64_t context_bytes; /* charged per context; MEASURED: asked for before one is made, and where NVML cannot tell */
    int priority;           /* 0 high, 1 low; CUDA_TASK_PRIORITY */
    bool utilization;       /* tell monitors how much GPU time is used, where nothing limits it too */
    bool fail_closed;       /* where limits cannot be held for all processes together, refuse CUDA instead of going on */
    bool present;           /* any source said anything */
    bool trusted;           /* the node's file was read */
    bool limited;           /* so were this container's limits (`limits`); atomic */
    bool unreadable;        /* the node's file is there and could not be used */
    char region_path[256];
    char mps_pipe[256];      /* where the MPS daemon listens */
    char activity_path[256]; /* folder of the node's containers' regions; empty = only our own activity is known */
    char container[256];     /* the node's name for it: of the folder that is mounted where its region is */
    char limits_path[256];   /* folder in which the node says what each container's limits are; empty = it does not */
};

typedef const char *(*ph_getenv)(const char *name);

void ph_config_defaults(struct ph_config *config);
/* Bytes of "3Gi", "3072m", "1.5G" is refused, "0x10k"; K, M, G, T with or without i and B, powers of 1024,
 * any case. False on anything else or on overflow. */
bool ph_parse_size(const char *text, uint64_t *bytes);
bool ph_parse_number(const char *text, long low, long high, long *value);
void ph_config_from_environment(struct ph_config *config, ph_getenv get);
/* `text` is the node's file; not terminated. NULL, or a sentence naming the line. */
const char *ph_config_from_text(struct ph_config *config, const char *text, size_t length);
/* `file` wins; `environment` lowers. */
void ph_config_combine(struct ph_config *file, const struct ph_config *environment);
/* Reads all: the file at `node`, which the node mounts; where there is none, the one at `path`; the environment. A file
 * counts only when it belongs to `owner` and nobody else may write it, or is the node's on a read-only mount. */
void ph_config_load(struct ph_config *config, const char *node, const char *path, uid_t owner);
/* Lowers the limits to what the node says of this container, once it does, in `limits`/<name hashed>.conf. The agent
 * writes that in the round after the container began; call it again until then. */
void ph_config_follow_limits(struct ph_config *config, uid_t owner);

/* FNV-1a, 64 bits: tenants that read the names of others' files in `limits` learn no pod's from them. */
uint64_t ph_hash(const char *text);

extern struct ph_config ph_config;
