/* A program takes most of the limit and closes every descriptor, as daemons do; a second one must not get its room.
 * The first goes on allocating; then it execs something else, and only then is its room free. */
#include "program.h"

#include <sys/wait.h>

static void open_gpu(void) {
    CUcontext context;
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
}

static bool second_gets(size_t bytes) {
    pid_t child = fork();
    if (child == 0) {
        CUdeviceptr a;
        open_gpu();
        _exit(cuMemAlloc_v2(&a, bytes) == CUDA_SUCCESS ? 0 : 9);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status == 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--something-else") == 0) return usleep(2000000) != 0;
    setlinebuf(stdout); /* or children would have the parent's lines to print */
    int told[2], go[2];
    char byte = 0;
    if (pipe(told) != 0 || pipe(go) != 0) return 2;
    pid_t first = fork();
    if (first == 0) {
        CUdeviceptr a, b;
        open_gpu();
        CHECK(cuMemAlloc_v2(&a, (size_t)800 << 20));
        for (int fd = 3; fd < 256; fd++)
            if (fd != told[1] && fd != go[0]) close(fd);
        if (write(told[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) _exit(3);
        CHECK(cuMemAlloc_v2(&b, (size_t)100 << 20));
        byte = cuMemAlloc_v2(&b, (size_t)200 << 20) == CUDA_SUCCESS;
        if (write(told[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) _exit(3);
        execl("/proc/self/exe", "program_daemon", "--something-else", (char *)NULL);
        _exit(4);
    }
    if (read(told[0], &byte, 1) != 1) return 2;
    puts(second_gets((size_t)300 << 20) ? "second granted" : "second refused");
    if (write(go[1], &byte, 1) != 1 || read(told[0], &byte, 1) != 1) return 2;
    puts(byte ? "first passed the limit" : "first went on");
    if (write(go[1], &byte, 1) != 1) return 2;
    usleep(500000);
    puts(second_gets((size_t)300 << 20) ? "exec freed" : "exec leaked");
    int status;
    while (wait(&status) > 0) {
    }
    return 0;
}
