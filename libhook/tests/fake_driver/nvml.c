/* libnvidia-ml.so.1 of the fake machine: sessions and handles. A session knows the GPUs that were there when NVML was
 * initialised, as NVML documents: others are seen by the next session, and one that is gone answers GPU_IS_LOST until
 * NVML has been initialised anew. A GPU that is lost is counted all the same. */
#include "nvml_view.h"

#include "sanitizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct nv_view nv_view;
const struct nv_source *nv_source;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned int initialised; /* nvmlInit counts */
static struct {
    struct nv_address address;
    bool lost;
} session[NV_GPUS];
static int session_count;
static struct {
    struct nv_address address;
    unsigned int gi, ci;
} mig_handle[NV_MIGS];
static int mig_handle_count;
enum { MIG_HANDLES = 0x1000 }; /* handles are small numbers: from 1 GPUs, from here MIG devices */

static void in_child(void) { mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; }

static void set_up(void) {
    nv_source = getenv("FAKE_NVML_STATE") || !&nv_machine ? &nv_file : &nv_machine;
    pthread_atfork(NULL, NULL, in_child);
}

static bool starts_a_session(const char *symbol) { return strncmp(symbol, "nvmlInit", 8) == 0; }

nvmlReturn_t nv_refresh(void) { return nv_source->refresh(); }

nvmlReturn_t nv_refused(const char *symbol, int gpu) {
    for (int i = 0; i < nv_view.refusal_count; i++) {
        const struct nv_refusal *r = &nv_view.refusal[i];
        size_t length = strlen(r->symbol);
        const char *rest = symbol + length;
        bool same = strncmp(symbol, r->symbol, length) == 0 && (!*rest || strncmp(rest, "_v", 2) == 0 || strcmp(rest, "WithFlags") == 0);
        if (same && r->gpu == gpu) return r->result;
    }
    return NVML_SUCCESS;
}

static nvmlReturn_t refused_by_environment(const char *symbol) { /* FAKE_NVML_FAIL=symbol:error, every call */
    const char *fail = getenv("FAKE_NVML_FAIL");
    size_t length = strlen(symbol);
    return fail && strncmp(fail, symbol, length) == 0 && fail[length] == ':' ? (nvmlReturn_t)atoi(fail + length + 1) : NVML_SUCCESS;
}

nvmlReturn_t nv_enter(const struct fk_call *call) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
    fg_mutex_lock(&mutex);
    nvmlReturn_t refused = refused_by_environment(call->symbol);
    if (refused == NVML_SUCCESS && !initialised && !starts_a_session(call->symbol)) refused = NVML_ERROR_UNINITIALIZED;
    if (refused == NVML_SUCCESS) refused = nv_refresh();
    if (refused == NVML_SUCCESS) refused = nv_refused(call->symbol, NV_ANY_GPU);
    bool ends = strcmp(call->symbol, "nvmlShutdown") == 0; /* always possible */
    return ends && initialised ? NVML_SUCCESS : refused;
}

void nv_leave(void) { fg_mutex_unlock(&mutex); }

nvmlReturn_t nv_unsupported(const char *symbol) {
    struct fk_call call = { symbol };
    nvmlReturn_t refused = nv_enter(&call);
    nv_leave();
    return refused == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : refused;
}

void nv_pause(unsigned int milliseconds) {
    struct timespec length = { .tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000 };
    fg_mutex_unlock(&mutex);
    nanosleep(&length, NULL);
    fg_mutex_lock(&mutex);
}

nvmlReturn_t fk_nvmlInit_v2(const struct fk_call *call) {
    (void)call;
    if (initialised++) return NVML_SUCCESS;
    session_count = 0;
    for (int i = 0; i < nv_view.gpu_count; i++) { /* a draining GPU is not seen by new programs */
        if (nv_is_draining(&nv_view.gpu[i])) continue;
        session[session_count].address = nv_view.gpu[i].address;
        session[session_count++].lost = false;
    }
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlInit(const struct fk_call *call) { return fk_nvmlInit_v2(call); }
nvmlReturn_t fk_nvmlInitWithFlags(const struct fk_call *call, unsigned int flags) {
    (void)flags;
    return fk_nvmlInit_v2(call);
}

nvmlReturn_t fk_nvmlShutdown(const struct fk_call *call) {
    (void)call;
    if (--initialised == 0) nv_free_event_sets();
    return NVML_SUCCESS;
}

bool nv_same_address(const struct nv_address *left, const struct nv_address *right) {
    return left->domain == right->domain && left->bus == right->bus && left->device == right->device;
}

int nv_index_of(const struct nv_gpu *gpu) { return (int)(gpu - nv_view.gpu); }

static const struct nv_gpu *shown(const struct nv_address *address) {
    for (int i = 0; i < nv_view.gpu_count; i++)
        if (nv_same_address(&nv_view.gpu[i].address, address)) return &nv_view.gpu[i];
    return NULL;
}

int nv_session_index_of(const struct nv_gpu *gpu) {
    for (int i = 0; i < session_count; i++)
        if (nv_same_address(&session[i].address, &gpu->address)) return i;
    return -1;
}

nvmlDevice_t nv_handle_of(const struct nv_gpu *gpu) { return (nvmlDevice_t)(intptr_t)(nv_session_index_of(gpu) + 1); }

/* The same MIG device has the same handle for as long as the program lives. */
nvmlDevice_t nv_handle_of_mig(const struct nv_mig *mig) {
    const struct nv_address *address = &nv_view.gpu[mig->gpu].address;
    int at = 0;
    while (at < mig_handle_count && !(nv_same_address(&mig_handle[at].address, address) && mig_handle[at].gi == mig->gi && mig_handle[at].ci == mig->ci)) at++;
    if (at == NV_MIGS) return NULL;
    if (at == mig_handle_count) {
        mig_handle[at].address = *address;
        mig_handle[at].gi = mig->gi;
        mig_handle[at].ci = mig->ci;
        mig_handle_count++;
    }
    return (nvmlDevice_t)(intptr_t)(MIG_HANDLES + at);
}

static nvmlReturn_t find(const struct fk_call *call, int at, const struct nv_gpu **gpu) {
    *gpu = shown(&session[at].address);
    session[at].lost |= !*gpu || (*gpu)->lost;
    return session[at].lost ? NVML_ERROR_GPU_IS_LOST : nv_refused(call->symbol, nv_index_of(*gpu));
}

nvmlReturn_t nv_gpu_or_mig_of(const struct fk_call *call, nvmlDevice_t handle, const struct nv_gpu **gpu, const struct nv_mig **mig) {
    intptr_t number = (intptr_t)handle;
    *mig = NULL;
    if (number >= 1 && number <= session_count) return find(call, (int)number - 1, gpu);
    int at = (int)(number - MIG_HANDLES);
    if (number < MIG_HANDLES || at >= mig_handle_count) return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < session_count; i++) {
        if (!nv_same_address(&session[i].address, &mig_handle[at].address)) continue;
        nvmlReturn_t result = find(call, i, gpu);
        if (result != NVML_SUCCESS) return result;
        for (int j = 0; j < nv_view.mig_count; j++) {
            const struct nv_mig *candidate = &nv_view.mig[j];
            if (candidate->gpu == nv_index_of(*gpu) && candidate->gi == mig_handle[at].gi && candidate->ci == mig_handle[at].ci) *mig = candidate;
        }
        return *mig && (*gpu)->mig ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT; /* the instance was destroyed */
    }
    return NVML_ERROR_INVALID_ARGUMENT;
}

/* For questions that only a whole GPU answers. */
nvmlReturn_t nv_gpu_of(const struct fk_call *call, nvmlDevice_t handle, const struct nv_gpu **gpu) {
    const struct nv_mig *mig;
    nvmlReturn_t result = nv_gpu_or_mig_of(call, handle, gpu, &mig);
    return result == NVML_SUCCESS && mig ? NVML_ERROR_NOT_SUPPORTED : result;
}

nvmlReturn_t fk_nvmlDeviceGetCount_v2(const struct fk_call *call, unsigned int *count) {
    (void)call;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = (unsigned int)session_count;
    return NVML_SUCCESS;
}
nvmlReturn_t fk_nvmlDeviceGetCount(const struct fk_call *call, unsigned int *count) { return fk_nvmlDeviceGetCount_v2(call, count); }

static nvmlReturn_t give(const struct fk_call *call, int at, nvmlDevice_t *device) {
    const struct nv_gpu *gpu;
    nvmlReturn_t result = find(call, at, &gpu);
    if (result == NVML_SUCCESS) *device = (nvmlDevice_t)(intptr_t)(at + 1);
    return result;
}

nvmlReturn_t fk_nvmlDeviceGetHandleByIndex_v2(const struct fk_call *call, unsigned int index, nvmlDevice_t *device) {
    if (!device || index >= (unsigned int)session_count) return NVML_ERROR_INVALID_ARGUMENT;
    return give(call, (int)index, device);
}
nvmlReturn_t fk_nvmlDeviceGetHandleByIndex(const struct fk_call *call, unsigned int index, nvmlDevice_t *device) {
    return fk_nvmlDeviceGetHandleByIndex_v2(call, index, device);
}

nvmlReturn_t fk_nvmlDeviceGetHandleByPciBusId_v2(const struct fk_call *call, const char *pciBusId, nvmlDevice_t *device) {
    struct nv_address address = { 0 };
    unsigned int function = 0;
    int end = 0;
    if (!pciBusId || !device) return NVML_ERROR_INVALID_ARGUMENT;
    /* The three documented forms, told apart by what is left over. */
    bool read = (sscanf(pciBusId, "%x:%x:%x.%x%n", &address.domain, &address.bus, &address.device, &function, &end) == 4 && !pciBusId[end]) ||
                (sscanf(pciBusId, "%x:%x:%x%n", &address.domain, &address.bus, &address.device, &end) == 3 && !pciBusId[end]);
    if (!read) {
        address.domain = 0;
        read = sscanf(pciBusId, "%x:%x.%x%n", &address.bus, &address.device, &function, &end) == 3 && !pciBusId[end];
    }
    if (!read) return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < session_count; i++)
        if (nv_same_address(&session[i].address, &address)) return give(call, i, device);
    return NVML_ERROR_NOT_FOUND;
}
nvmlReturn_t fk_nvmlDeviceGetHandleByPciBusId(const struct fk_call *call, const char *pciBusId, nvmlDevice_t *device) {
    return fk_nvmlDeviceGetHandleByPciBusId_v2(call, pciBusId, device);
}

nvmlReturn_t fk_nvmlDeviceGetHandleByUUID(const struct fk_call *call, const char *uuid, nvmlDevice_t *device) {
    if (!uuid || !device) return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < session_count; i++) {
        const struct nv_gpu *gpu = shown(&session[i].address);
        if (gpu && strcmp(gpu->uuid, uuid) == 0) return give(call, i, device);
    }
    for (int i = 0; i < nv_view.mig_count; i++) {
        const struct nv_mig *mig = &nv_view.mig[i];
        if (strcmp(mig->uuid, uuid) != 0 || !nv_view.gpu[mig->gpu].mig || !nv_handle_of(&nv_view.gpu[mig->gpu])) continue;
        *device = nv_handle_of_mig(mig);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nv_text(char *to, unsigned int room, const char *text) {
    if (!to) return NVML_ERROR_INVALID_ARGUMENT;
    return (size_t)snprintf(to, room, "%s", text) < room ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

const char *nvmlErrorString(nvmlReturn_t result);
const char *nvmlErrorString(nvmlReturn_t result) {
    static const char *const texts[] = {
        [NVML_SUCCESS] = "Success", [NVML_ERROR_UNINITIALIZED] = "Uninitialized", [NVML_ERROR_INVALID_ARGUMENT] = "Invalid Argument",
        [NVML_ERROR_NOT_SUPPORTED] = "Not Supported", [NVML_ERROR_NO_PERMISSION] = "Insufficient Permissions",
        [NVML_ERROR_ALREADY_INITIALIZED] = "Already Initialized", [NVML_ERROR_NOT_FOUND] = "Not Found",
        [NVML_ERROR_INSUFFICIENT_SIZE] = "Insufficient Size", [NVML_ERROR_INSUFFICIENT_POWER] = "Insufficient External Power",
        [NVML_ERROR_DRIVER_NOT_LOADED] = "Driver Not Loaded", [NVML_ERROR_TIMEOUT] = "Timeout", [NVML_ERROR_IRQ_ISSUE] = "Interrupt Request Issue",
        [NVML_ERROR_LIBRARY_NOT_FOUND] = "NVML Shared Library Not Found", [NVML_ERROR_FUNCTION_NOT_FOUND] = "Function Not Found",
        [NVML_ERROR_CORRUPTED_INFOROM] = "Corrupted infoROM", [NVML_ERROR_GPU_IS_LOST] = "GPU is lost",
        [NVML_ERROR_RESET_REQUIRED] = "GPU requires restart", [NVML_ERROR_OPERATING_SYSTEM] = "The operating system has blocked the request.",
        [NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "RM has detected an NVML/RM version mismatch.", [NVML_ERROR_IN_USE] = "In use by another client",
        [NVML_ERROR_MEMORY] = "Insufficient Memory", [NVML_ERROR_NO_DATA] = "No data",
        [NVML_ERROR_INSUFFICIENT_RESOURCES] = "Insufficient Resources", [NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "Argument version mismatch",
        [NVML_ERROR_NOT_READY] = "Not ready", [NVML_ERROR_GPU_NOT_FOUND] = "GPU not found", [NVML_ERROR_INVALID_STATE] = "Invalid state",
    };
    const char *text = (size_t)result < sizeof texts / sizeof *texts ? texts[result] : NULL;
    return text ? text : "Unknown Error";
}

/* nvidia-smi asks for tables of private functions, which no documentation tells, and ends without them. Here every one of
 * them is not supported; the first word is the table's size in bytes. */
enum { PRIVATE_FUNCTIONS = 512 };
static int private_function(void) { return NVML_ERROR_NOT_SUPPORTED; }
int nvmlInternalGetExportTable(const void **table, const void *id);
int nvmlInternalGetExportTable(const void **table, const void *id) {
    static union {
        size_t size;
        int (*function)(void);
    } entries[PRIVATE_FUNCTIONS];
    if (!table || !id) return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 1; i < PRIVATE_FUNCTIONS; i++) entries[i].function = private_function;
    entries[0].size = sizeof entries;
    *table = entries;
    return NVML_SUCCESS;
}
