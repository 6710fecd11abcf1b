/* The file all processes of a container share. Its first part is HAMi's region v1.2 byte for byte, so that
 * HAMi's monitor reads it; ours follows on the next page.
 *
 * Invariants
 *  - A slot belongs to the process that holds the POSIX record lock on its byte; the kernel releases it
 *    on any death, and at exec because the descriptor is close-on-exec. Slots never move.
 *  - Only its owner adds to a slot. Whoever takes the lock of a dead slot may clear it.
 *  - The container's usage of a device is the sum over slots; no total is stored, so none can be wrong.
 *  - Every value read from the file is treated as hostile: bounded, never used as an index or a size. */
#pragma once

#include "activity.h"
#include "unbilled.h"
#include "throttling.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PH_MAX_DEVICES = 16,
    PH_MAX_SLOTS = 1024,
    PH_UUID_SIZE = 96,
    PH_REGION_MAGIC = 19920718, /* HAMi's */
    PH_HAMI_SIZE = 2008952,
    PH_EXTENSION_OFFSET = 491 * 4096,
    PH_EXTENSION_MAGIC = 0x4b4f4f48, /* "HOOK" */
    PH_EXTENSION_VERSION = 5,
};

struct ph_slot_memory {
    uint64_t context, module, data, offset, total, unused[3];
};
struct ph_slot_utilization {
    uint64_t decoder, encoder, sm, unused[3];
};
struct ph_slot {
    int32_t pid; /* in the container's PID namespace */
    int32_t host_pid;
    struct ph_slot_memory used[PH_MAX_DEVICES];
    uint64_t monitor_used[PH_MAX_DEVICES];
    struct ph_slot_utilization utilization[PH_MAX_DEVICES];
    int32_t status; /* 0 free, 1 running, 2 suspended */
    uint64_t sequence;
    uint64_t unused[2];
};
struct ph_hami_region {
    int32_t magic;
    uint32_t major, minor;
    int32_t sm_init_flag;
    uint64_t owner_pid;
    uint8_t semaphore[32]; /* a sem_t of HAMi's; we initialise it to 1 and never wait on it */
    uint64_t device_count;
    char uuids[PH_MAX_DEVICES][PH_UUID_SIZE];
    uint64_t limit[PH_MAX_DEVICES];
    uint64_t sm_limit[PH_MAX_DEVICES];
    struct ph_slot slots[PH_MAX_SLOTS];
    int32_t slot_high_water;
    int32_t utilization_switch;
    int32_t recent_kernel; /* the monitor counts it down; below 0 it wants us to stand still */
    int32_t priority;
    uint64_t last_kernel_time; /* Unix seconds */
    uint8_t semaphore_postinit[32];
};

_Static_assert(sizeof(struct ph_slot) == 1960, "slot of region v1.2");
_Static_assert(offsetof(struct ph_slot, used) == 8, "used");
_Static_assert(offsetof(struct ph_slot, monitor_used) == 1032, "monitor_used");
_Static_assert(offsetof(struct ph_slot, utilization) == 1160, "utilization");
_Static_assert(offsetof(struct ph_slot, status) == 1928, "status");
_Static_assert(offsetof(struct ph_slot, sequence) == 1936, "sequence");
_Static_assert(offsetof(struct ph_hami_region, owner_pid) == 16, "owner_pid");
_Static_assert(offsetof(struct ph_hami_region, semaphore) == 24, "sem");
_Static_assert(offsetof(struct ph_hami_region, device_count) == 56, "device_num");
_Static_assert(offsetof(struct ph_hami_region, uuids) == 64, "uuids");
_Static_assert(offsetof(struct ph_hami_region, limit) == 1600, "limit");
_Static_assert(offsetof(struct ph_hami_region, sm_limit) == 1728, "sm_limit");
_Static_assert(offsetof(struct ph_hami_region, slots) == 1856, "procs");
_Static_assert(offsetof(struct ph_hami_region, slot_high_water) == 2008896, "proc_num");
_Static_assert(offsetof(struct ph_hami_region, recent_kernel) == 2008904, "recent_kernel");
_Static_assert(offsetof(struct ph_hami_region, last_kernel_time) == 2008912, "last_kernel_time");
_Static_assert(offsetof(struct ph_hami_region, semaphore_postinit) == 2008920, "sem_postinit");
_Static_assert(sizeof(struct ph_hami_region) == PH_HAMI_SIZE, "region v1.2");

/* What a reader needs to tell one process from a later one with the same pid. Index = slot. */
struct ph_identity {
    uint64_t start_time;    /* field 22 of /proc/self/stat, clock ticks since boot */
    uint64_t pid_namespace; /* inode of /proc/self/ns/pid */
    uint64_t generation;    /* counts the owners of this slot */
    uint64_t unused;
};
/* One device's GPU time. `paid_until` is the virtual time of the bucket: launches wait until it is past. */
struct ph_bucket {
    int64_t paid_until_ns;
    uint64_t busy_ns; /* all GPU time ever charged */
    int64_t left_ns;  /* used by the dead, not yet charged */
    uint64_t unused[5];
};
struct ph_extension {
    uint32_t magic, version;
    uint64_t size;
    uint64_t memory_limit_denials;
    uint64_t unused[5];
    struct ph_bucket buckets[PH_MAX_DEVICES];
    struct ph_identity identities[PH_MAX_SLOTS];
    struct ph_activity_ring activity[PH_MAX_DEVICES];
    struct ph_unbilled unbilled[PH_MAX_SLOTS][PH_MAX_DEVICES];
    struct ph_throttle_ring throttled[PH_MAX_DEVICES];
};
_Static_assert(PH_EXTENSION_OFFSET > PH_HAMI_SIZE, "leaves HAMi's trailing byte alone");
_Static_assert(offsetof(struct ph_extension, buckets) == 64, "buckets");
_Static_assert(offsetof(struct ph_extension, identities) == 64 + 64 * PH_MAX_DEVICES, "identities");

enum { PH_REGION_SIZE = PH_EXTENSION_OFFSET + sizeof(struct ph_extension) };

/* Byte ranges used as locks, far behind the data. */
enum { PH_LOCK_SLOTS = 0x40000000, PH_LOCK_INIT = 0x50000000, PH_LOCK_SLOW = 0x50000001, PH_LOCK_CONTEXT = 0x50000002 };

enum ph_region_state { PH_REGION_NONE, PH_REGION_SHARED, PH_REGION_PRIVATE };
struct ph_region {
    struct ph_hami_region *hami;
    struct ph_extension *extension;
    enum ph_region_state state;
    int fd;
    int slot; /* -1 before the claim */
    const char *refusal; /* why the file was refused; NULL if it was not */
    uint64_t inode, filesystem;
    char path[256];
};
extern struct ph_region ph_region;
static inline int ph_own_slot(void) { return __atomic_load_n(&ph_region.slot, __ATOMIC_ACQUIRE); }

struct ph_region_defaults {
    int device_count;
    const uint64_t *memory_limit; /* bytes, 0 = none */
    const uint64_t *core_limit;   /* percent, 0 = none */
    const char (*uuids)[PH_UUID_SIZE];
    int priority;
};

/* Opens or creates the region. A file that cannot be trusted is left as it is, and a private region with
 * the same limits is used: this process stays within them, alone. Never fails. */
void ph_region_open(const char *path, const struct ph_region_defaults *defaults);
/* Serialises the slow path between processes; gives up after `milliseconds`, because a holder may be stopped. */
bool ph_region_lock(long offset, int milliseconds);
void ph_region_unlock(long offset);
/* The descriptor is still ours, or opened again; false: nothing may be locked. */
bool ph_region_reachable(void);
int ph_region_lock_byte(int fd, long offset, short type); /* 0: locked, at once or not at all */
/* In the child: the parent's locks are not ours. */
void ph_region_after_fork(void);
void ph_region_close(void);
/* Checks `size` bytes at `map` as a region; NULL if it is one, else the reason. */
const char *ph_region_refusal(const void *map, size_t size);
