/* A container's processes that want more memory than there is, first in peace, then killed all at once.
 *   contend --processes N --seconds T --bytes LIMIT
 * FAKE_CUDA_WATCH_LIMIT tells the machine the limit. Two lines of JSON: {"granted":…, "refused":…, "excess_bytes":…}
 * after the race, {"left_bytes":…, "recovery_ms":…} after the killing: what is still counted against the limit, and
 * when all of it could be had again (-1: not within ten seconds). */
#include "program.h"

#include <signal.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct board {
    int ready, go;
    uint64_t granted, refused;
};

static void open_gpu(void) {
    CUcontext context;
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
}

static void grab(struct board *board, unsigned int seed, int64_t seconds) {
    enum { HELD = 64 };
    CUdeviceptr held[HELD] = { 0 };
    open_gpu();
    __atomic_add_fetch(&board->ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&board->go, __ATOMIC_SEQ_CST)) usleep(1000);
    int64_t end = now_ns() + seconds;
    while (now_ns() < end) {
        int at = (int)((seed = seed * 1103515245u + 12345u) >> 16) % HELD;
        if (held[at]) cuMemFree_v2(held[at]);
        held[at] = 0;
        CUresult result = cuMemAlloc_v2(&held[at], (size_t)(1 + (seed >> 8) % 32) << 20);
        if (result != CUDA_SUCCESS) held[at] = 0;
        __atomic_add_fetch(result == CUDA_SUCCESS ? &board->granted : &board->refused, 1, __ATOMIC_RELAXED);
    }
    __atomic_add_fetch(&board->ready, 1, __ATOMIC_SEQ_CST);
    pause(); /* with what it holds, until it is killed */
}

static void say_what_is_left(size_t limit) {
    size_t free_bytes = 0, total = 0;
    CUdeviceptr whole = 0;
    int64_t start = now_ns();
    open_gpu();
    CHECK(cuMemGetInfo_v2(&free_bytes, &total));
    size_t left = limit > free_bytes ? limit - free_bytes : 0;
    CUresult result = cuMemAlloc_v2(&whole, limit);
    while (result != CUDA_SUCCESS && now_ns() - start < 10000000000) {
        usleep(10000);
        result = cuMemAlloc_v2(&whole, limit);
    }
    printf("{\"left_bytes\": %llu, \"recovery_ms\": %lld}\n", (unsigned long long)left,
           result == CUDA_SUCCESS ? (long long)((now_ns() - start) / 1000000) : -1);
}

int main(int argc, char **argv) {
    int processes = (int)number(argc, argv, "--processes", 8);
    int64_t seconds = number(argc, argv, "--seconds", 3) * 1000000000;
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[256];
    if (processes > 256) return 2;
    for (int i = 0; i < processes; i++) {
        children[i] = fork();
        if (children[i] < 0) return 2;
        if (children[i] == 0) grab(board, (unsigned int)i * 7919u + 1u, seconds);
    }
    while (__atomic_load_n(&board->ready, __ATOMIC_SEQ_CST) < processes) usleep(1000);
    board->go = 1;
    while (__atomic_load_n(&board->ready, __ATOMIC_SEQ_CST) < 2 * processes) usleep(1000);
    printf("{\"granted\": %llu, \"refused\": %llu, \"excess_bytes\": %llu}\n", (unsigned long long)board->granted,
           (unsigned long long)board->refused, (unsigned long long)(on_fake_machine() ? fg_memory_excess(0) : 0));
    fflush(stdout);
    for (int i = 0; i < processes; i++) kill(children[i], SIGKILL);
    while (wait(NULL) > 0) {
    }
    say_what_is_left((size_t)number(argc, argv, "--bytes", 1 << 30));
    return 0;
}
