/* Many processes that allocate, free, fork, exec, exit and are killed and stopped at random.
 *   chaos --processes N --seconds T --seed S
 * FAKE_CUDA_WATCH_LIMIT tells the machine the limit; afterwards everything must be free again and the machine must
 * never have given more than the limit. Prints one line of JSON. */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static uint64_t state;
static uint64_t chance(uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? state % below : 0;
}

static void open_gpu(void) {
    CUcontext context;
    CHECK(cuInit(0));
    if (cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS) _exit(0); /* the machine has a limit of contexts too */
    CHECK(cuCtxSetCurrent(context));
}

static void live(char **argv, uint64_t seed, uint64_t *counters) {
    CUdeviceptr held[16] = { 0 };
    state = seed | 1;
    open_gpu();
    for (;;) {
        int at = (int)chance(16);
        if (held[at]) {
            CHECK(cuMemFree_v2(held[at]));
            held[at] = 0;
        } else {
            CUresult result = cuMemAlloc_v2(&held[at], (1 + chance(48)) << 20);
            if (result != CUDA_SUCCESS) held[at] = 0;
            __atomic_add_fetch(&counters[result == CUDA_SUCCESS ? 0 : 1], 1, __ATOMIC_RELAXED);
        }
        if (chance(400) == 0) _exit(0);
        if (chance(400) == 0 && fork() == 0) _exit(0); /* a child that never touches the GPU */
        if (chance(600) == 0) {
            char text[32];
            snprintf(text, sizeof text, "%llu", (unsigned long long)chance(UINT64_MAX));
            execl("/proc/self/exe", argv[0], "--again", text, (char *)NULL);
            _exit(1);
        }
        if (chance(8) == 0) usleep((useconds_t)chance(2000));
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}

int main(int argc, char **argv) {
    uint64_t *counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (option(argc, argv, "--again", NULL)) live(argv, (uint64_t)number(argc, argv, "--again", 1), counters);
    int wanted = (int)number(argc, argv, "--processes", 16);
    int64_t end = now_ns() + number(argc, argv, "--seconds", 5) * 1000000000;
    uint64_t seed = (uint64_t)number(argc, argv, "--seed", 1), killed = 0, stopped = 0, born = 0;
    pid_t children[512] = { 0 };
    bool frozen[512] = { false };
    state = seed * 0x9e3779b97f4a7c15u | 1;
    while (now_ns() < end) {
        int i = (int)chance((uint64_t)wanted);
        if (children[i] && waitpid(children[i], NULL, WNOHANG) == children[i]) children[i] = 0;
        if (!children[i]) {
            uint64_t next = chance(UINT64_MAX);
            frozen[i] = false;
            children[i] = fork();
            if (children[i] == 0) live(argv, next, counters);
            born++;
        } else if (frozen[i]) {
            kill(children[i], SIGCONT);
            frozen[i] = false;
        } else if (chance(4) == 0) {
            kill(children[i], SIGKILL);
            killed++;
        } else if (chance(4) == 0) {
            kill(children[i], SIGSTOP);
            frozen[i] = true;
            stopped++;
        }
        usleep(2000);
    }
    for (int i = 0; i < wanted; i++)
        if (children[i]) kill(children[i], SIGKILL);
    while (wait(NULL) > 0) {
    }
    open_gpu();
    CUdeviceptr all = 0;
    size_t free_bytes = 0, total = 0;
    /* An allocation of the whole limit makes the hook look for the dead. */
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    CUresult whole = cuMemAlloc_v2(&all, total);
    if (whole == CUDA_SUCCESS) CHECK(cuMemFree_v2(all));
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    printf("{\"born\": %llu, \"killed\": %llu, \"stopped\": %llu, \"granted\": %llu, \"refused\": %llu, \"excess_bytes\": %llu, "
           "\"leaked_bytes\": %llu, \"whole_limit_again\": %s}\n",
           (unsigned long long)born, (unsigned long long)killed, (unsigned long long)stopped, (unsigned long long)counters[0],
           (unsigned long long)counters[1], (unsigned long long)fg_memory_excess(0), (unsigned long long)(total - free_bytes),
           whole == CUDA_SUCCESS ? "true" : "false");
    return fg_memory_excess(0) != 0 || total != free_bytes || whole != CUDA_SUCCESS;
}
