/* One thread initialises CUDA while another loads a library whose constructor does too: the dynamic linker has a lock of its
 * own, which is held while constructors run. Ends by SIGALRM where the two wait for each other. Prints the bytes of the GPU, or that there is none. */
#include "program.h"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

static void *load(void *unused) {
    (void)unused;
    return dlopen("libprogram_loading.so", RTLD_NOW);
}

int main(void) {
    int *const loading = dlsym(RTLD_DEFAULT, "program_loading");
    void *found, *library;
    pthread_t thread;
    size_t free_bytes, total;
    int count;
    CUdriverProcAddressQueryResult how;
    CUcontext context;
    alarm(20);
    CHECK(cuGetProcAddress_v2("cuInit", &found, 12000, 0, &how)); /* libcuda is loaded by now */
    pthread_create(&thread, NULL, load, NULL);
    while (!__atomic_load_n(loading, __ATOMIC_ACQUIRE)) usleep(1000);
    CHECK(cuInit(0));
    pthread_join(thread, &library);
    if (!library) return 3;
    CHECK(cuDeviceGetCount(&count));
    if (count == 0) return puts("no GPU") < 0;
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    printf("%zu\n", total);
    return 0;
}

/* The library's constructor sets it. */
__attribute__((visibility("default"))) int program_loading;
