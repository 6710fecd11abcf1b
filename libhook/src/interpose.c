/* dlsym, dlvsym and cuGetProcAddress: the three ways a program finds the driver without linking to it.
 *
 * The exported dlsym is a few instructions of assembly around ph_dlsym_answer: when the answer is not ours it
 * jumps to glibc's dlsym with the stack as the caller left it, so that RTLD_NEXT and RTLD_DEFAULT still mean
 * the caller's place in the search order. */
#define _GNU_SOURCE
#include "interpose.h"

#include "config.h"
#include "driver.h"
#include "gate.h"
#include "hooks.h"
#include "log.h"
#include "symbols.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

PH_BARE static bool of_driver(const char *name) {
    return (name[0] == 'c' && name[1] == 'u' && name[2] >= 'A' && name[2] <= 'Z') || ph_starts(name, "nvml");
}

/* A driver newer than this library may have ways to take memory or GPU time that nobody here knows. */
static bool takes_something(const char *name) {
    static const char *const beginnings[] = { "cuMemAlloc", "cuMemCreate", "cuMemPoolCreate", "cuArrayCreate", "cuArray3DCreate",
                                              "cuMipmappedArrayCreate", "cuMulticastBind", "cuImportExternalMemory", "cuCtxCreate",
                                              "cuGraphInstantiate", "cuGraphLaunch", "cuLaunch" };
    if (ph_starts(name, "cuMemAllocHost") || ph_starts(name, "cuLaunchHostFunc")) return false; /* of the host */
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (ph_starts(name, beginnings[i])) return true;
    return false;
}

/* The first such function that a program has been given. Programs look up before cuInit, when it is not known yet
 * whether anything is limited here, and so whether anybody must hear of it. */
static struct {
    enum { NONE, NOTING, NOTED, REPORTED } state;
    char name[64];
} unknown;

void ph_report_unknown(void) {
    if (PH_LIKELY(__atomic_load_n(&unknown.state, __ATOMIC_ACQUIRE) != NOTED) || !ph_config.present) return;
    if (__atomic_exchange_n(&unknown.state, REPORTED, __ATOMIC_RELAXED) != NOTED) return;
    ph_error("the driver has %s, which this release of the hook does not know: what is taken by it is not limited. Install a "
             "release made for this driver's CUDA.", unknown.name);
}

static void note_unknown(const char *name) {
    unsigned int none = NONE;
    if (!takes_something(name) ||
        !__atomic_compare_exchange_n((unsigned int *)&unknown.state, &none, NOTING, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    for (size_t i = 0; i + 1 < sizeof unknown.name && name[i]; i++) unknown.name[i] = name[i];
    __atomic_store_n(&unknown.state, NOTED, __ATOMIC_RELEASE);
    if (ph_gate_state() != PH_GATE_UNINITIALIZED) ph_report_unknown();
}

/* Both addresses are of the same file, loaded once or (in namespaces of its own) more often. */
static bool same_file(const void *a, const void *b) {
    Dl_info of_a, of_b;
    return dladdr(a, &of_a) && dladdr(b, &of_b) && of_a.dli_fname && of_b.dli_fname && strcmp(of_a.dli_fname, of_b.dli_fname) == 0;
}

/* A driver may look itself up: WSL2's libcuda.so.1 finds the driver proper by dlsym. What it asks for is its own. */
static bool is_driver(const void *caller) {
    void *export = ph_driver_cuda() ? ph_glibc_dlsym()(ph_driver_cuda(), "cuInit") : NULL;
    return export && same_file(caller, export);
}

/* Symbol → call: perfect order is not needed, 150 names in a small open table. */
static short by_symbol[512];

static uint32_t slot_of(const char *symbol) { return ph_symbol_hash(symbol) & 511; }

static void fill_by_symbol(void) {
    for (int i = 0; i < PH_COUNT; i++) {
        uint32_t at = slot_of(ph_calls[i].symbol);
        while (by_symbol[at]) at = (at + 1) & 511;
        by_symbol[at] = (short)(i + 1);
    }
}

static const struct ph_call *call_by_symbol(const char *symbol) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_by_symbol);
    for (uint32_t at = slot_of(symbol); by_symbol[at]; at = (at + 1) & 511)
        if (strcmp(ph_calls[by_symbol[at] - 1].symbol, symbol) == 0) return &ph_calls[by_symbol[at] - 1];
    return NULL;
}

/* Ours, or NULL: then glibc answers. Ours stands for the exports of one file, the driver that we opened: another
 * library's function of that name is that library's, and what the handle does not have, or this driver lacks, stays
 * missing. What RTLD_DEFAULT and RTLD_NEXT mean is known to glibc alone, so there the name decides. */
static void *driver_answer(void *handle, const char *name, const void *caller) {
    ph_dlsym_function next = ph_glibc_dlsym();
    const struct ph_call *call = call_by_symbol(name);
    if (!call) {
        void *library = takes_something(name) ? ph_driver_cuda() : NULL;
        if (library && next(library, name) && !is_driver(caller)) note_unknown(name);
        return NULL;
    }
    bool anywhere = handle == RTLD_DEFAULT || handle == RTLD_NEXT;
    void *found = anywhere ? NULL : next(handle, name);
    if (!anywhere && !found) return NULL;
    bool nvml = call->since == 0;
    if (nvml) ph_driver_open_nvml();
    else ph_driver_open_cuda();
    void *library = nvml ? ph_driver_nvml() : ph_driver_cuda();
    void *export = library ? next(library, name) : NULL;
    if (!export || (!anywhere && found != export && found != call->hook && !same_file(found, export)) || is_driver(caller)) return NULL;
    return call->hook;
}

__attribute__((visibility("hidden"), used)) PH_BARE void *ph_dlsym_answer(void *handle, const char *name, const void *caller) {
    ph_glibc_dlsym();
    return name && of_driver(name) ? driver_answer(handle, name, caller) : NULL;
}

#if defined(__x86_64__)
#define PH_TRAMPOLINE(function, answer, next)                                                       \
    __asm__(".text\n.globl " #function "\n.type " #function ",@function\n"   \
            #function ":\n"                                                                         \
            "\t.cfi_startproc\n\tendbr64\n"                                                         \
            "\tpush %rdi\n\t.cfi_adjust_cfa_offset 8\n\tpush %rsi\n\t.cfi_adjust_cfa_offset 8\n"    \
            "\tpush %rdx\n\t.cfi_adjust_cfa_offset 8\n"                                             \
            "\tmov 24(%rsp), %rdx\n" /* who asks */                                                \
            "\tcall " #answer "\n"                                                                  \
            "\tpop %rdx\n\t.cfi_adjust_cfa_offset -8\n\tpop %rsi\n\t.cfi_adjust_cfa_offset -8\n"    \
            "\tpop %rdi\n\t.cfi_adjust_cfa_offset -8\n"                                             \
            "\ttest %rax, %rax\n\tjne 1f\n\tjmp *" #next "(%rip)\n1:\tret\n"                        \
            "\t.cfi_endproc\n.size " #function ", .-" #function "\n");
#define PH_OLD_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define PH_TRAMPOLINE(function, answer, next)                                                       \
    __asm__(".text\n.globl " #function "\n.type " #function ",%function\n"   \
            #function ":\n"                                                                         \
            "\tstp x29, x30, [sp, #-48]!\n\tstp x0, x1, [sp, #16]\n\tstr x2, [sp, #32]\n"           \
            "\tmov x29, sp\n\tmov x2, x30\n\tbl " #answer "\n\tmov x9, x0\n"                                       \
            "\tldp x0, x1, [sp, #16]\n\tldr x2, [sp, #32]\n\tldp x29, x30, [sp], #48\n"             \
            "\tcbz x9, 1f\n\tmov x0, x9\n\tret\n"                                                   \
            "1:\tadrp x9, " #next "\n\tldr x9, [x9, #:lo12:" #next "]\n\tbr x9\n"                   \
            ".size " #function ", .-" #function "\n");
#define PH_OLD_GLIBC "GLIBC_2.17"
#else
#error "dlsym's trampoline is written for x86-64 and aarch64"
#endif

PH_TRAMPOLINE(ph_dlsym_old, ph_dlsym_answer, ph_next_dlsym)
PH_TRAMPOLINE(ph_dlsym_new, ph_dlsym_answer, ph_next_dlsym)
PH_TRAMPOLINE(ph_dlvsym_old, ph_dlsym_answer, ph_next_dlvsym)
PH_TRAMPOLINE(ph_dlvsym_new, ph_dlsym_answer, ph_next_dlvsym)
__asm__(".symver ph_dlsym_old,dlsym@" PH_OLD_GLIBC);
__asm__(".symver ph_dlsym_new,dlsym@@GLIBC_2.34");
__asm__(".symver ph_dlvsym_old,dlvsym@" PH_OLD_GLIBC);
__asm__(".symver ph_dlvsym_new,dlvsym@@GLIBC_2.34");

static void *by_address(void *address) {
    for (int i = 0; i < PH_COUNT; i++)
        if (ph_calls[i].since != 0 && (ph_real(&ph_calls[i]) == address || ph_calls[i].hook == address)) return ph_calls[i].hook;
    return NULL;
}

/* The newest ABI up to `version` that we know. A function without per-thread variant serves both stream kinds. */
static struct ph_call *newest(const char *base, int version, bool per_thread) {
    struct ph_call *best = NULL;
    for (int i = 0; i < PH_COUNT; i++) {
        struct ph_call *call = &ph_calls[i];
        if (call->since == 0 || call->per_thread != per_thread || call->since > version || strcmp(call->base, base) != 0) continue;
        if (!best || call->since > best->since) best = call;
    }
    return best || !per_thread ? best : newest(base, version, false);
}

/* What the driver hands out for the release that brought an ABI is that ABI. */
static bool is_that_abi(const struct ph_call *call, void *address, cuuint64_t flags) {
    void *then = NULL;
    CUdriverProcAddressQueryResult found;
    if (!ph_driver_lacks(&ph_calls[PH_cuGetProcAddress_v2]))
        return PH_REAL(cuGetProcAddress_v2)(call->base, &then, call->since, flags, &found) == CUDA_SUCCESS && then == address;
    return PH_REAL(cuGetProcAddress)(call->base, &then, call->since, flags) == CUDA_SUCCESS && then == address;
}

/* The address decides: it names the ABI, whatever the caller asked for. One that no export has is ours to wrap only if
 * the driver hands it out for the release that brought an ABI we know too; a later ABI has other parameters. */
static void *hook_for(void *address, const char *base, int version, cuuint64_t flags) {
    void *hook = by_address(address);
    struct ph_call *best = hook ? NULL : newest(base, version, (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0);
    if (!best || !is_that_abi(best, address, flags)) return hook;
    if (ph_driver_lacks(best)) __atomic_store_n(&best->real, address, __ATOMIC_RELAXED); /* not exported, only handed out */
    return best->hook;
}

static void substitute(const char *name, void **function, int version, cuuint64_t flags) {
    if (!function || !*function || !name) return;
    void *hook = hook_for(*function, name, version, flags);
    if (hook) *function = hook;
    else note_unknown(name);
}

CUresult ph_get_proc_address(const struct ph_call *call, const char *symbol, void **pfn, int version, cuuint64_t flags) {
    CUresult result = PH_NEXT(call, cuGetProcAddress)(symbol, pfn, version, flags);
    if (result == CUDA_SUCCESS) substitute(symbol, pfn, version, flags);
    return result;
}

CUresult ph_get_proc_address_v2(const struct ph_call *call, const char *symbol, void **pfn, int version, cuuint64_t flags,
                                CUdriverProcAddressQueryResult *found) {
    CUresult result = PH_NEXT(call, cuGetProcAddress_v2)(symbol, pfn, version, flags, found);
    if (result == CUDA_SUCCESS) substitute(symbol, pfn, version, flags);
    return result;
}
