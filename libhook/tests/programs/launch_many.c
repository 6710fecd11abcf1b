/* How long it takes until N programs, started at once, each have a context and some memory.
 *   launch_many --processes N    prints {"processes":…, "first_ms":…, "wall_ms":…}
 * Every program is started anew, so that loading and setting up the hook is part of it, and stays until all are up. */
#include "program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
enum { READY = 60, LEAVE = 61 }; /* descriptors of the children */

static int child(void) {
    CUcontext context;
    CUdeviceptr a;
    char byte = 0;
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuMemAlloc_v2(&a, 1 << 20));
    if (write(READY, &byte, 1) != 1) return 3;
    while (read(LEAVE, &byte, 1) > 0) {
    }
    return 0;
}

int main(int argc, char **argv) {
    if (option(argc, argv, "--child", NULL)) return child();
    int processes = (int)number(argc, argv, "--processes", 1), ready[2], leave[2], status, failed = 0;
    char *arguments[] = { argv[0], "--child", "1", NULL }, byte;
    posix_spawn_file_actions_t files;
    if (pipe2(ready, O_CLOEXEC) || pipe2(leave, O_CLOEXEC)) return 2;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, ready[1], READY);
    posix_spawn_file_actions_adddup2(&files, leave[0], LEAVE);
    int64_t start = now_ns(), first = 0;
    for (int i = 0; i < processes; i++) {
        pid_t pid;
        if (posix_spawn(&pid, "/proc/self/exe", &files, NULL, arguments, environ) != 0) return 2;
    }
    close(ready[1]);
    for (int i = 0; i < processes; i++) {
        if (read(ready[0], &byte, 1) != 1) return 3; /* a child has ended without being ready */
        if (!first) first = now_ns() - start;
    }
    int64_t wall = now_ns() - start;
    close(leave[1]);
    while (wait(&status) > 0) failed |= status;
    printf("{\"processes\": %d, \"first_ms\": %.3f, \"wall_ms\": %.3f}\n", processes, (double)first / 1e6, (double)wall / 1e6);
    return failed != 0;
}
