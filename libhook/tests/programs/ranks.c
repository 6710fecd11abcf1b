/* ranks N SECONDS KERNELS [threads]: N ranks, each on a GPU of its own, that train together: KERNELS kernels of a
 * millisecond, then a collective that spins on every GPU until the last has come. Processes, or threads of one. Prints
 * how many iterations they made. On either fake driver; on the fake machine's virtual clock in any number of ranks, as no
 * rank waits for a processor there. */
#include "program.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct board {
    volatile int arrived, iterations;
} *board;
static int ranks, kernels, seconds;

/* By its name: the fake driver refers to it too, and a program that is not linked with the machine cannot then leave it out. */
static bool on_virtual_clock(void) {
    bool (*is_virtual)(void) = (bool (*)(void))dlsym(RTLD_DEFAULT, "fg_is_virtual");
    return is_virtual && is_virtual();
}

/* Of the first rank: whichever way the others run, they end with it. */
static void *say(void *unused) {
    (void)unused;
    struct timespec length = { .tv_sec = seconds };
    nanosleep(&length, NULL);
    printf("%d\n", board->iterations);
    fflush(stdout);
    if (on_virtual_clock()) fg_process_leaves();
    _exit(0);
}

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
    pthread_t timer;
    CHECK(cuDeviceGet(&device, rank));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&spin, module, "spin"));
    CHECK(cuModuleGetFunction(&meet, module, "meet"));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    if (on_virtual_clock()) fg_meet(ranks);
    if (rank == 0 && pthread_create(&timer, NULL, say, NULL) != 0) exit(2);
    for (;;) {
        for (int i = 0; i < kernels; i++) CHECK(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, work, NULL));
        wanted += ranks;
        CHECK(cuLaunchKernel(meet, 1, 1, 1, 1, 1, 1, 0, stream, collective, NULL));
        CHECK(cuStreamSynchronize(stream));
        if (rank == 0) board->iterations++;
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 3;
    bool threads = argc > 4;
    pid_t child[16];
    pthread_t thread;
    ranks = atoi(argv[1]);
    seconds = atoi(argv[2]);
    kernels = atoi(argv[3]);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (threads) {
        CHECK(cuInit(0));
        for (intptr_t i = 1; i < ranks; i++)
            if (pthread_create(&thread, NULL, live, (void *)i) != 0) return 2;
        live((void *)0);
    }
    for (intptr_t i = 0; i < ranks; i++) {
        if ((child[i] = fork()) > 0) continue;
        if (on_virtual_clock()) fg_step_back(); /* or time would run for the hook's thread alone until the first launch */
        CHECK(cuInit(0));
        live((void *)i);
    }
    int status;
    waitpid(child[0], &status, 0);
    for (int i = 1; i < ranks; i++) kill(child[i], SIGKILL);
    while (wait(NULL) > 0) {
    }
    return status != 0;
}
