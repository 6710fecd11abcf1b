/* Forks while other threads are inside the hook, and uses the GPU in the children: locks that somebody held at that
 * moment must not stay shut there.   forks --children N     prints "done" */
#include "program.h"

#include <pthread.h>
#include <sys/wait.h>

enum { PATIENCE_S = 10 };
static CUcontext context;
static bool stop;

static void use_pools(void) {
    CUdeviceptr a;
    CHECK(cuMemAllocAsync(&a, 1 << 20, NULL));
    CHECK(cuMemFreeAsync(a, NULL));
}

static void use_mappings(void) {
    CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };
    CUmemGenericAllocationHandle memory;
    CUdeviceptr range;
    CHECK(cuMemAddressReserve(&range, 2 << 20, 0, 0, 0));
    CHECK(cuMemCreate(&memory, 2 << 20, &prop, 0));
    CHECK(cuMemMap(range, 2 << 20, 0, memory, 0));
    CHECK(cuMemUnmap(range, 2 << 20));
    CHECK(cuMemRelease(memory));
}

static void use_everything(void) {
    CUdeviceptr a;
    CHECK(cuMemAlloc_v2(&a, 1 << 20));
    CHECK(cuMemFree_v2(a));
    use_pools();
    use_mappings();
}

static void *live(void *use) {
    CHECK(cuCtxSetCurrent(context));
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) ((void (*)(void))use)();
    return NULL;
}

static void open_gpu(void) {
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
}

int main(int argc, char **argv) {
    void (*const uses[])(void) = { use_pools, use_mappings, use_everything, use_pools };
    enum { THREADS = sizeof uses / sizeof *uses };
    int64_t children = number(argc, argv, "--children", 100);
    pthread_t threads[THREADS];
    open_gpu();
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, live, (void *)uses[i]);
    int status, failed = 0;
    for (int64_t i = 0; i < children && !failed; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE_S); /* ends a child that hangs */
            open_gpu();
            use_everything();
            _exit(0);
        }
        waitpid(child, &status, 0);
        failed = status;
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    if (failed) return fprintf(stderr, "a child ended with status %d\n", failed), 1;
    puts("done");
    return 0;
}
