/* Tries to get memory past the limit by one way, and says "granted" or "refused"; where that stays open, the test
 * that runs it says so too.
 *   bypass WAY BYTES
 *   bypass hold BYTES      says it and keeps the memory until standard input ends
 *   bypass killed NS       runs a kernel of NS and dies of SIGKILL before it is billed
 *   bypass busy 0          prints how long the first GPU has ever worked */
#include "program.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <signal.h>

typedef CUresult (*allocator)(CUdeviceptr *, size_t);
int64_t fg_device_busy(int device);

static void open_gpu(void) {
    CUcontext context;
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
}

static CUresult plain(size_t bytes) {
    CUdeviceptr address;
    open_gpu();
    return cuMemAlloc_v2(&address, bytes);
}

static void *loaded(void *library) {
    if (library) return library;
    fprintf(stderr, "%s\n", dlerror());
    exit(2);
}

/* The driver in a namespace of its own; but whoever asks dlsym for its functions gets the hooks. */
static CUresult looked_up_in_namespace(size_t bytes) {
    void *library = loaded(dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW));
    CUdeviceptr address;
    open_gpu();
    return ((allocator)dlsym(library, "cuMemAlloc_v2"))(&address, bytes);
}

static CUresult by_library(void *library, size_t bytes) {
    return ((CUresult (*)(size_t))dlsym(loaded(library), "inner_take"))(bytes);
}

/* A whole program part in a namespace of its own, where nothing is preloaded. */
static CUresult in_namespace(size_t bytes) { return by_library(dlmopen(LM_ID_NEWLM, "libprogram_inner.so", RTLD_NOW), bytes); }

/* A library that looks for symbols in what it is linked to first, and only then in what is preloaded. */
static CUresult deep_bound(size_t bytes) { return by_library(dlopen("libprogram_inner.so", RTLD_NOW | RTLD_DEEPBIND), bytes); }

/* The driver's undocumented tables of functions: here the fake driver's, which holds an allocator. */
static CUresult by_table(size_t bytes) {
    static const CUuuid id = { .bytes = "fake table" };
    const struct {
        size_t size;
        allocator allocate;
    } *table;
    CUdeviceptr address;
    open_gpu();
    CHECK(cuGetExportTable((const void **)&table, &id));
    return table->allocate(&address, bytes);
}

/* … and then asks for more in the usual way: what the table gave is seen by then if NVML is asked. */
static CUresult by_table_and_more(size_t bytes) {
    size_t free_bytes, total;
    CHECK(by_table(bytes));
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    return plain(bytes);
}

/* Reads the driver's symbol table itself. */
static CUresult by_symbol_table(size_t bytes) {
    struct link_map *map = loaded(dlopen("libcuda.so.1", RTLD_NOW));
    const ElfW(Sym) *symbol = NULL;
    const char *strings = NULL;
    for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB) symbol = (const void *)entry->d_un.d_ptr;
        if (entry->d_tag == DT_STRTAB) strings = (const void *)entry->d_un.d_ptr;
    }
    CUdeviceptr address;
    open_gpu();
    for (; (const char *)symbol < strings; symbol++)
        if (symbol->st_value && strcmp(strings + symbol->st_name, "cuMemAlloc_v2") == 0)
            return ((allocator)(map->l_addr + symbol->st_value))(&address, bytes);
    exit(3);
}

static int killed(int64_t ns) {
    CUmodule module;
    CUfunction spin;
    void *parameters[] = { &ns };
    open_gpu();
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&spin, module, "spin"));
    CHECK(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
    CHECK(cuCtxSynchronize());
    return raise(SIGKILL);
}

static const struct {
    const char *name;
    CUresult (*take)(size_t bytes);
} ways[] = {
    { "plain", plain },           { "hold", plain },           { "looked-up-in-namespace", looked_up_in_namespace },
    { "namespace", in_namespace }, { "deep-bound", deep_bound }, { "table", by_table },
    { "table-and-more", by_table_and_more }, { "symbol-table", by_symbol_table },
};

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int64_t amount = strtoll(argv[2], NULL, 0);
    if (strcmp(argv[1], "killed") == 0) return killed(amount);
    if (strcmp(argv[1], "busy") == 0) return printf("%lld\n", (long long)fg_device_busy(0)) < 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (strcmp(argv[1], ways[i].name) != 0) continue;
        CUresult result = ways[i].take((size_t)amount);
        if (result != CUDA_SUCCESS && result != CUDA_ERROR_OUT_OF_MEMORY) check(result, argv[1], __LINE__);
        puts(result == CUDA_SUCCESS ? "granted" : "refused");
        fflush(stdout);
        if (strcmp(argv[1], "hold") == 0) (void)getchar();
        return 0;
    }
    fprintf(stderr, "no such way: %s\n", argv[1]);
    return 2;
}
