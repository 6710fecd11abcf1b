/* What the fake libnvidia-ml.so.1 shows, and where that comes from: a state file (FAKE_NVML_STATE, see nvml_file.c), or
 * in libhook's own suite the fake machine. The library is the same; without the machine it needs nothing but gcc. */
#pragma once

#define _GNU_SOURCE
#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#include <nvml.h>
#include <stdbool.h>
#include <stdint.h>

enum { NV_GPUS = 32, NV_PROCESSES = 1024, NV_MIGS = 256, NV_EVENTS = 256, NV_REFUSALS = 64, NV_ANY_GPU = -1 };
enum { NV_COMPUTE = 1, NV_GRAPHICS = 2, NV_MPS = 4 };
#define NV_NO_INSTANCE 0xFFFFFFFFu
#define NV_BYTES_UNKNOWN ((unsigned long long)NVML_VALUE_NOT_AVAILABLE)

struct nv_process {
    int gpu; /* index in the view */
    unsigned int kinds, pid, gi, ci, sm, memory; /* sm, memory: percent of the last sample */
    unsigned long long bytes;
};
struct nv_mig {
    int gpu;
    unsigned int gi, ci;
    unsigned long long bytes;
    char uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE], profile[32];
};
struct nv_event {
    int gpu;
    unsigned int gi, ci;
    unsigned long long number, type, data;
};
struct nv_refusal { /* a function that fails, on one GPU or on any */
    int gpu;
    nvmlReturn_t result;
    char symbol[80];
};
struct nv_address {
    unsigned int domain, bus, device;
};
struct nv_gpu {
    struct nv_address address;
    char uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE], model[NVML_DEVICE_NAME_V2_BUFFER_SIZE], serial[NVML_DEVICE_SERIAL_BUFFER_SIZE];
    unsigned int minor, pci_device_id, pci_subsystem_id, percent, memory_percent;
    int capability_major, capability_minor;
    unsigned long long bytes, reserved, used;
    bool used_is_told, can_mig, mig, mig_pending, lost, persistent;
};
struct nv_view {
    char driver_version[80], nvml_version[80];
    int cuda_version;
    int gpu_count, process_count, mig_count, event_count, refusal_count;
    struct nv_gpu gpu[NV_GPUS];
    struct nv_process process[NV_PROCESSES];
    struct nv_mig mig[NV_MIGS];
    struct nv_event event[NV_EVENTS];
    struct nv_refusal refusal[NV_REFUSALS];
};
extern struct nv_view nv_view;

/* Where the view comes from. All of it with the library's lock held. */
struct nv_source {
    nvmlReturn_t (*refresh)(void); /* brings nv_view up to date */
    int (*processes)(int gpu, struct nv_process found[NV_PROCESSES]);
    int (*samples)(int gpu, struct nv_process found[NV_PROCESSES]); /* of the last sample period, idle ones too */
    unsigned long long (*used)(int gpu);
    unsigned int (*percent)(int gpu);
};
extern const struct nv_source nv_file;
extern const struct nv_source nv_machine __attribute__((weak)); /* not in the library that stands alone */
extern const struct nv_source *nv_source;

/* What programs set (persistence mode, drain state) is the driver's state, not theirs: it outlives them. */
bool nv_is_persistent(const struct nv_gpu *gpu);
bool nv_is_draining(const struct nv_gpu *gpu);

/* Every exported function is nv_enter, the implementation, nv_leave: one at a time. */
struct fk_call {
    const char *symbol;
};
nvmlReturn_t nv_enter(const struct fk_call *call);
nvmlReturn_t nv_unsupported(const char *symbol);
void nv_leave(void);
void nv_pause(unsigned int milliseconds); /* the lock is free meanwhile; what nv_view held has to be looked up anew */
nvmlReturn_t nv_refresh(void);
void nv_free_event_sets(void);

/* What a handle stands for now; NVML's error for one that is none, or whose GPU is lost. */
nvmlReturn_t nv_gpu_of(const struct fk_call *call, nvmlDevice_t handle, const struct nv_gpu **gpu);
nvmlReturn_t nv_gpu_or_mig_of(const struct fk_call *call, nvmlDevice_t handle, const struct nv_gpu **gpu, const struct nv_mig **mig);
nvmlReturn_t nv_refused(const char *symbol, int gpu);
int nv_index_of(const struct nv_gpu *gpu);                  /* in nv_view */
int nv_session_index_of(const struct nv_gpu *gpu);          /* NVML's index: as enumerated by nvmlInit; -1: not there then */
nvmlDevice_t nv_handle_of(const struct nv_gpu *gpu);        /* NULL: not there when NVML was initialised */
nvmlDevice_t nv_handle_of_mig(const struct nv_mig *mig);
bool nv_same_address(const struct nv_address *left, const struct nv_address *right);
nvmlReturn_t nv_text(char *to, unsigned int room, const char *text); /* INSUFFICIENT_SIZE if it does not fit */
