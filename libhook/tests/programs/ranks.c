/* ranks N SECONDS KERNELS [threads]: N ranks, each on a GPU of its own, that train together: KERNELS kernels of a
 * millisecond, then a collective that spins on every GPU until the last has come. Processes, or threads of one. Prints
 * how many iterations they made. */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct board {
    volatile int arrived, stop, iterations;
} *board;
static int ranks, kernels;

static void *live(void *number) {
    int rank = (int)(intptr_t)number;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction spin, meet;
    CUstream stream;
    int64_t ns = 1000000, wanted = 0;
    volatile int *arrived = &board->arrived;
    void *work[] = { &ns }, *collective[] = { &arrived, &wanted };
    CHECK(cuDeviceGet(&device, rank));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&spin, module, "spin"));
    CHECK(cuModuleGetFunction(&meet, module, "meet"));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    while (!board->stop) {
        for (int i = 0; i < kernels; i++) CHECK(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, work, NULL));
        wanted += ranks;
        CHECK(cuLaunchKernel(meet, 1, 1, 1, 1, 1, 1, 0, stream, collective, NULL));
        CHECK(cuStreamSynchronize(stream));
        if (rank == 0) board->iterations++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) return 3;
    bool threads = argc > 4;
    int seconds = atoi(argv[2]);
    pid_t child[16];
    pthread_t thread;
    ranks = atoi(argv[1]);
    kernels = atoi(argv[3]);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (threads) CHECK(cuInit(0));
    for (intptr_t i = 0; i < ranks; i++) {
        if (threads && pthread_create(&thread, NULL, live, (void *)i) == 0) continue;
        if ((child[i] = fork()) > 0) continue;
        CHECK(cuInit(0));
        live((void *)i);
        _exit(0);
    }
    sleep((unsigned int)seconds);
    printf("%d\n", board->iterations);
    fflush(stdout);
    if (threads) _exit(0);
    for (int i = 0; i < ranks; i++) kill(child[i], SIGKILL);
    while (wait(NULL) > 0) {
    }
    return 0;
}
