/* A library that uses CUDA while it is loaded, by program_loader. */
#include <cuda.h>
#include <dlfcn.h>
#include <unistd.h>

__attribute__((constructor)) static void begin(void) {
    int *loading = dlsym(RTLD_DEFAULT, "program_loading");
    if (!loading) return;
    __atomic_store_n(loading, 1, __ATOMIC_RELEASE);
    usleep(300000); /* the other thread gets as far as it can */
    cuInit(0);
}
