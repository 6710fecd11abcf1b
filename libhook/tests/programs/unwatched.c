/* unwatched MODE SECONDS: a program that learns from host memory, not from CUDA, when its kernels are done.
 *   named|legacy|ptds   short kernels first, waited for; then ones of 20 ms of the same function and grid, on a named, the
 *                       legacy or a per-thread default stream, slept through
 *   forget              a kernel of 10 us every 5 ms that nobody waits for
 * Prints {"busy_ns":…, "elapsed_ns":…, "waited_ns": in launches}. Virtual time. */
#include "program.h"

static CUfunction kernel;

static void sleep_ns(int64_t ns) {
    struct timespec length = { ns / 1000000000, ns % 1000000000 };
    nanosleep(&length, NULL);
}

int main(int argc, char **argv) {
    if (argc < 3) return 3;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUstream stream = NULL;
    int64_t ns = 1000, until, waited = 0;
    void *parameters[] = { &ns };
    bool ptds = strcmp(argv[1], "ptds") == 0, forget = strcmp(argv[1], "forget") == 0;
    fg_step_back();
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&kernel, module, "spin"));
    if (forget || strcmp(argv[1], "named") == 0) CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < 8 && !forget; i++) {
        if (ptds) CHECK(cuLaunchKernel_ptsz(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        else CHECK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        CHECK(ptds ? cuStreamSynchronize_ptsz(NULL) : cuStreamSynchronize(stream));
    }
    int64_t from = now_ns();
    ns = forget ? 10000 : 20000000;
    until = from + (int64_t)(strtod(argv[2], NULL) * 1e9);
    while (now_ns() < until) {
        int64_t before = now_ns();
        if (ptds) CHECK(cuLaunchKernel_ptsz(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        else CHECK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        waited += now_ns() - before;
        sleep_ns(forget ? 5000000 : 20000000);
    }
    printf("{\"busy_ns\": %lld, \"elapsed_ns\": %lld, \"waited_ns\": %lld}\n", (long long)fg_process_busy(0, getpid()),
           (long long)(now_ns() - from), (long long)waited);
    fflush(stdout);
    fg_process_leaves();
    _exit(0);
}
