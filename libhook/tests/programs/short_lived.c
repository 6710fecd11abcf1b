/* Processes that work for a few milliseconds each and are killed before anything of it can be paid.
 *   short_lived --seconds T --life-ns L --ns KERNEL
 * Prints {"busy_ns":…, "elapsed_ns":…, "born":…}, the fake machine's count. */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>

static int64_t kernel_ns, life_ns;

static void open_gpu(void) {
    CUcontext context;
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
}

static void live(void) {
    CUmodule module;
    CUfunction spin;
    void *parameters[] = { &kernel_ns };
    open_gpu();
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&spin, module, "spin"));
    CHECK(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL)); /* waits for its turn */
    int64_t end = now_ns() + life_ns;
    while (now_ns() < end) {
        CHECK(cuCtxSynchronize());
        CHECK(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
    }
    kill(getpid(), SIGKILL);
}

int main(int argc, char **argv) {
    kernel_ns = number(argc, argv, "--ns", 200000);
    life_ns = number(argc, argv, "--life-ns", 4000000);
    int64_t start = now_ns(), end = start + (int64_t)(strtod(option(argc, argv, "--seconds", "3"), NULL) * 1e9);
    int born = 0;
    int64_t busy = 0;
    while (now_ns() < end) {
        pid_t child = fork();
        if (child < 0) return 2;
        if (child == 0) live();
        siginfo_t how;
        waitid(P_PID, (id_t)child, &how, WEXITED | WNOWAIT); /* the machine forgets whom nobody waits for any more */
        busy += fg_process_busy(0, child);
        waitpid(child, NULL, 0);
        if (how.si_code != CLD_KILLED) return 3;
        born++;
    }
    printf("{\"busy_ns\": %lld, \"elapsed_ns\": %lld, \"born\": %d}\n", (long long)busy, (long long)(now_ns() - start), born);
    return 0;
}
