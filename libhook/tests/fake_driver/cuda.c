/* Start-up, devices, contexts, lookup, errors. */
#define _GNU_SOURCE
#include "fake.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

pthread_mutex_t fk_mutex = PTHREAD_MUTEX_INITIALIZER;
__thread struct fk_context *fk_current;
static __thread struct fk_context *pushed[16];
static __thread int depth;
static struct {
    struct fk_context *context;
    int references;
} primary[FG_DEVICES];
static bool initialised;

int fk_unsupported(const char *symbol) {
    if (getenv("FAKE_CUDA_STRICT")) fprintf(stderr, "[fake driver] %s is not there\n", symbol);
    return CUDA_ERROR_NOT_SUPPORTED;
}

int fk_enter(const struct fk_call *call) {
    static int log_file = -2, fail_at, fail_with = CUDA_ERROR_OUT_OF_MEMORY, calls;
    static char fail_symbol[64];
    if (__builtin_expect(log_file == -2, 0)) {
        const char *path = getenv("FAKE_CUDA_LOG"), *fail = getenv("FAKE_CUDA_FAIL");
        if (fail) sscanf(fail, "%63[^:]:%d:%d", fail_symbol, &fail_at, &fail_with);
        log_file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    }
    if (log_file >= 0 && strcmp(call->symbol, "cuInit") == 0 && getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"))
        dprintf(log_file, "%d cuInit MPS %s %s\n", (int)getpid(), getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
                getenv("CUDA_MPS_PIPE_DIRECTORY"));
    if (log_file >= 0) dprintf(log_file, "%d %s\n", (int)getpid(), call->symbol);
    if (fail_symbol[0] && (strcmp(call->symbol, fail_symbol) == 0 || strcmp(fail_symbol, "*") == 0) &&
        (fail_at < 0 || __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == fail_at)) return fail_with;
    return 0;
}

static void in_child(void) { pthread_mutex_init(&fk_mutex, NULL); }
static void look_at_devices(void);
static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }

CUresult fk_cuInit(const struct fk_call *call, unsigned int flags) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)call;
    fg_ready();
    pthread_once(&once, watch_forks);
    if (!initialised) look_at_devices();
    initialised = true;
    return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult fk_cuDriverGetVersion(const struct fk_call *call, int *version) {
    (void)call;
    fg_ready();
    *version = fg_settings()->cuda_version;
    return CUDA_SUCCESS;
}

static CUresult look_up(const char *base, void **function, int version, cuuint64_t flags) {
    fg_ready();
    bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    int ceiling = version < fg_settings()->cuda_version ? version : fg_settings()->cuda_version;
    const struct fk_symbol *best = NULL;
    for (const struct fk_symbol *s = fk_symbols; s->base; s++)
        if (strcmp(s->base, base) == 0 && s->since <= ceiling && (!s->per_thread || per_thread) &&
            (!best || s->since > best->since || (s->since == best->since && s->per_thread))) best = s;
    /* The per-thread variant of an ABI may carry a later number than the plain one; prefer it when asked. */
    for (const struct fk_symbol *s = fk_symbols; per_thread && best && !best->per_thread && s->base; s++)
        if (strcmp(s->base, base) == 0 && s->per_thread && s->since <= ceiling) best = s;
    *function = best ? best->address : NULL;
    return best ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult fk_cuGetProcAddress(const struct fk_call *call, const char *symbol, void **pfn, int version, cuuint64_t flags) {
    (void)call;
    return symbol && pfn ? look_up(symbol, pfn, version, flags) : CUDA_ERROR_INVALID_VALUE;
}

CUresult fk_cuGetProcAddress_v2(const struct fk_call *call, const char *symbol, void **pfn, int version, cuuint64_t flags,
                                CUdriverProcAddressQueryResult *found) {
    (void)call;
    if (!symbol || !pfn) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = look_up(symbol, pfn, version, flags);
    if (found) *found = result == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return result;
}

/* Devices */

/* CUDA_VISIBLE_DEVICES, indices only: what is visible, in that order. */
static int visible[FG_DEVICES], visible_count;

static void look_at_devices(void) {
    const char *chosen = getenv("CUDA_VISIBLE_DEVICES");
    for (int i = 0; i < fg_settings()->device_count && !chosen; i++) visible[visible_count++] = i;
    for (char *end; chosen && *chosen && visible_count < FG_DEVICES; chosen = *end ? end + 1 : end) {
        long at = strtol(chosen, &end, 10);
        if (end == chosen || at < 0 || at >= fg_settings()->device_count) break;
        visible[visible_count++] = (int)at;
    }
}
static bool exists(CUdevice device) { return initialised && device >= 0 && device < visible_count; }
int fk_gpu_of(CUdevice device) { return exists(device) ? visible[device] : 0; }

void fk_uuid(int device, unsigned char bytes[16]) {
    memset(bytes, 0, 16);
    memcpy(bytes, "\xfa\x4e\xca\xfe", 4);
    bytes[15] = (unsigned char)device; /* the machine's */
}

CUresult fk_cuDeviceGetCount(const struct fk_call *call, int *count) {
    (void)call;
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    *count = visible_count;
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGet(const struct fk_call *call, CUdevice *device, int ordinal) {
    (void)call;
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (!exists(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetName(const struct fk_call *call, char *name, int length, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    snprintf(name, (size_t)length, "poolmgr fake GPU");
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetUuid(const struct fk_call *call, CUuuid *uuid, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    fk_uuid(fk_gpu_of(device), (unsigned char *)uuid->bytes);
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetPCIBusId(const struct fk_call *call, char *text, int length, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    snprintf(text, (size_t)length, "0000:%02X:00.0", 0x10 + fk_gpu_of(device));
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceGetAttribute(const struct fk_call *call, int *value, CUdevice_attribute attribute, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    const char *mps = getenv("FAKE_CUDA_MPS"); /* whether an MPS daemon serves us; unset: a driver before this question */
    switch ((int)attribute) {
    case CU_DEVICE_ATTRIBUTE_MPS_ENABLED:
        if (!mps) return CUDA_ERROR_INVALID_VALUE;
        *value = atoi(mps);
        break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *value = 2048; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceTotalMem_v2(const struct fk_call *call, size_t *bytes, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    *bytes = fg_settings()->memory_bytes;
    return CUDA_SUCCESS;
}
CUresult fk_cuDeviceTotalMem(const struct fk_call *call, unsigned int *bytes, CUdevice_v1 device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    *bytes = (unsigned int)(fg_settings()->memory_bytes > UINT32_MAX ? UINT32_MAX : fg_settings()->memory_bytes);
    return CUDA_SUCCESS;
}

/* Contexts */

static CUresult create(CUcontext *context, CUdevice ordinal, bool is_primary) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    if (!exists(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    struct fk_context *fresh = calloc(1, sizeof *fresh);
    int device = fk_gpu_of(ordinal);
    fresh->device = device;
    fresh->ordinal = ordinal;
    fresh->primary = is_primary;
    if (!fg_memory_take(device, fg_settings()->context_bytes)) {
        free(fresh);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    fresh->gpu = fg_context_open(device);
    if (fresh->gpu < 0) {
        fg_memory_give(device, fg_settings()->context_bytes);
        free(fresh);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *context = (CUcontext)fresh;
    return CUDA_SUCCESS;
}

CUresult fk_cuCtxCreate_v2(const struct fk_call *call, CUcontext *context, unsigned int flags, CUdevice device) {
    (void)call;
    (void)flags;
    CUresult result = create(context, device, false);
    if (result == CUDA_SUCCESS) fk_current = (struct fk_context *)*context;
    return result;
}
CUresult fk_cuCtxCreate_v3(const struct fk_call *call, CUcontext *context, CUexecAffinityParam *affinity, int count,
                           unsigned int flags, CUdevice device) {
    (void)affinity;
    (void)count;
    return fk_cuCtxCreate_v2(call, context, flags, device);
}
CUresult fk_cuCtxCreate_v4(const struct fk_call *call, CUcontext *context, CUctxCreateParams *params, unsigned int flags,
                           CUdevice device) {
    (void)params;
    return fk_cuCtxCreate_v2(call, context, flags, device);
}

static void unload(struct fk_module *module) {
    if (module->context) fg_memory_give(module->context->device, module->bytes);
    module->context = NULL;
    module->bytes = 0;
}

static void destroy(struct fk_context *context) {
    for (struct fk_module *module = context->modules; module; module = module->next) unload(module);
    fg_memory_give(context->device, fg_settings()->context_bytes);
    while (context->blocks) {
        struct fk_block *block = context->blocks;
        context->blocks = block->next;
        fg_memory_give(block->device, block->bytes);
        free(block);
    }
    fg_context_close(context->gpu);
    if (fk_current == context) fk_current = NULL;
}

CUresult fk_cuCtxDestroy_v2(const struct fk_call *call, CUcontext context) {
    (void)call;
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    destroy((struct fk_context *)context); /* the struct itself is kept: stale handles must not crash a test */
    return CUDA_SUCCESS;
}
CUresult fk_cuCtxDetach(const struct fk_call *call, CUcontext context) { return fk_cuCtxDestroy_v2(call, context); }

CUresult fk_cuDevicePrimaryCtxRetain(const struct fk_call *call, CUcontext *context, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    fg_mutex_lock(&fk_mutex);
    CUresult result = CUDA_SUCCESS;
    if (!primary[device].context) result = create((CUcontext *)&primary[device].context, device, true);
    if (result == CUDA_SUCCESS) {
        primary[device].references++;
        *context = (CUcontext)primary[device].context;
    }
    fg_mutex_unlock(&fk_mutex);
    return result;
}

static void end_primary(CUdevice device) {
    if (primary[device].context) destroy(primary[device].context);
    primary[device].context = NULL;
}
CUresult fk_cuDevicePrimaryCtxRelease_v2(const struct fk_call *call, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    fg_mutex_lock(&fk_mutex);
    CUresult result = primary[device].references > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS && --primary[device].references == 0) end_primary(device);
    fg_mutex_unlock(&fk_mutex);
    return result;
}
/* Whoever retained it holds it still, as seen with driver 580: the next one to retain it makes it anew. */
CUresult fk_cuDevicePrimaryCtxReset_v2(const struct fk_call *call, CUdevice device) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    fg_mutex_lock(&fk_mutex);
    CUresult result = primary[device].context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    end_primary(device);
    fg_mutex_unlock(&fk_mutex);
    return result;
}
CUresult fk_cuDevicePrimaryCtxGetState(const struct fk_call *call, CUdevice device, unsigned int *flags, int *active) {
    (void)call;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    *flags = 0;
    *active = primary[device].context != NULL;
    return CUDA_SUCCESS;
}
CUresult fk_cuCtxGetCurrent(const struct fk_call *call, CUcontext *context) {
    (void)call;
    *context = (CUcontext)fk_current;
    return CUDA_SUCCESS;
}
CUresult fk_cuCtxSetCurrent(const struct fk_call *call, CUcontext context) {
    (void)call;
    fk_current = (struct fk_context *)context;
    return CUDA_SUCCESS;
}
CUresult fk_cuCtxPushCurrent_v2(const struct fk_call *call, CUcontext context) {
    (void)call;
    if (depth == 16) return CUDA_ERROR_INVALID_VALUE;
    pushed[depth++] = fk_current;
    fk_current = (struct fk_context *)context;
    return CUDA_SUCCESS;
}
CUresult fk_cuCtxPopCurrent_v2(const struct fk_call *call, CUcontext *context) {
    (void)call;
    if (context) *context = (CUcontext)fk_current;
    fk_current = depth ? pushed[--depth] : NULL;
    return CUDA_SUCCESS;
}
CUresult fk_cuCtxGetDevice(const struct fk_call *call, CUdevice *device) {
    (void)call;
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    *device = fk_current->ordinal;
    return CUDA_SUCCESS;
}

/* Errors, modules */

CUresult fk_cuGetErrorString(const struct fk_call *call, CUresult error, const char **text) {
    (void)call;
    *text = error == CUDA_SUCCESS ? "no error" : error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of the fake driver";
    return CUDA_SUCCESS;
}
CUresult fk_cuGetErrorName(const struct fk_call *call, CUresult error, const char **text) {
    (void)call;
    *text = error == CUDA_SUCCESS ? "CUDA_SUCCESS" : error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
    return CUDA_SUCCESS;
}
static bool put_on_gpu(struct fk_module *module) {
    if (module->bytes || !module->context) return true;
    if (!fg_memory_take(module->context->device, fg_settings()->module_bytes)) return false;
    module->bytes = fg_settings()->module_bytes;
    return true;
}
static CUresult load(struct fk_module **loaded) {
    if (!fk_current) return CUDA_ERROR_INVALID_CONTEXT;
    struct fk_module *module = calloc(1, sizeof *module);
    module->context = fk_current;
    if (!fg_settings()->lazy && !put_on_gpu(module)) {
        free(module);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    fg_mutex_lock(&fk_mutex);
    module->next = fk_current->modules;
    fk_current->modules = module;
    fg_mutex_unlock(&fk_mutex);
    *loaded = module;
    return CUDA_SUCCESS;
}
CUresult fk_cuModuleLoad(const struct fk_call *call, CUmodule *module, const char *file) {
    (void)call, (void)file;
    return load((struct fk_module **)module);
}
CUresult fk_cuModuleLoadData(const struct fk_call *call, CUmodule *module, const void *image) {
    (void)call, (void)image;
    return load((struct fk_module **)module);
}
CUresult fk_cuModuleLoadFatBinary(const struct fk_call *call, CUmodule *module, const void *image) {
    return fk_cuModuleLoadData(call, module, image);
}
CUresult fk_cuModuleLoadDataEx(const struct fk_call *call, CUmodule *module, const void *image, unsigned int count,
                               CUjit_option *options, void **values) {
    (void)count, (void)options, (void)values;
    return fk_cuModuleLoadData(call, module, image);
}
CUresult fk_cuModuleUnload(const struct fk_call *call, CUmodule module) {
    (void)call;
    unload((struct fk_module *)module); /* the struct itself is kept, as a context's is */
    return CUDA_SUCCESS;
}
CUresult fk_cuLibraryLoadData(const struct fk_call *call, CUlibrary *library, const void *code, CUjit_option *jit, void **jit_values,
                              unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    (void)call, (void)code, (void)jit, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
    return load((struct fk_module **)library);
}
CUresult fk_cuLibraryLoadFromFile(const struct fk_call *call, CUlibrary *library, const char *file, CUjit_option *jit, void **jit_values,
                                  unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    return fk_cuLibraryLoadData(call, library, file, jit, jit_values, jit_count, options, values, count);
}
CUresult fk_cuLibraryUnload(const struct fk_call *call, CUlibrary library) { return fk_cuModuleUnload(call, (CUmodule)library); }
CUresult fk_cuModuleGetFunction(const struct fk_call *call, CUfunction *function, CUmodule module, const char *name) {
    (void)call;
    if (!put_on_gpu((struct fk_module *)module)) return CUDA_ERROR_OUT_OF_MEMORY;
    int64_t *duration = malloc(sizeof *duration); /* the handle of a function is its duration; -1: first parameter, -2: hold, -3: meet */
    static const struct {
        const char *name;
        int64_t duration;
    } special[] = { { "spin", -1 }, { "hold", -2 }, { "meet", -3 } };
    *duration = strncmp(name, "spin_", 5) == 0 ? strtoll(name + 5, NULL, 10) : 10000;
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        if (strcmp(name, special[i].name) == 0) *duration = special[i].duration;
    *function = (CUfunction)duration;
    return CUDA_SUCCESS;
}
CUresult fk_cuFuncGetAttribute(const struct fk_call *call, int *value, CUfunction_attribute attribute, CUfunction function) {
    (void)call;
    (void)attribute;
    (void)function;
    *value = 0;
    return CUDA_SUCCESS;
}
