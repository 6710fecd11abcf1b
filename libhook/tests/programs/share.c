/* Uses as much GPU time as it gets and says how much that was.
 *   share --ns KERNEL --grid BLOCKS --warm T --seconds T --mode sync|async|graph|think --streams N --processes P
 *   … --write-at T --region FILE --offset O --size 4|8 --value V [--undo-at T --undo-value V]: what another program
 *   writes to the shared file meanwhile
 *   … --programs N: begins when N programs on this fake machine are ready to
 *   … --gpu N: the machine's number of the only GPU that is visible, to count by
 *   … --region FILE --read O: prints the 8 bytes there when it has finished, as "read"
 * Prints one line per process: {"pid":…, "busy_ns":…, "elapsed_ns":…, "launches":…}; busy_ns is the fake
 * machine's own count, or launches × KERNEL on a real GPU,
 * where a kernel takes about as long as KERNEL says. */
#include "program.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* A kernel of so many rounds, each a write to shared memory and a read that waits for it. Unlike `spin`, which looks at
 * the clock, it gets no further while other contexts have their turn, as a user's kernels do. */
static const char WORK_PTX[] =
    ".version 6.0\n.target sm_50\n.address_size 64\n"
    ".visible .entry work(.param .u64 rounds) {\n"
    ".reg .u64 %n; .reg .u32 %x; .reg .pred %p; .shared .align 4 .u32 cell;\n"
    "ld.param.u64 %n, [rounds];\n"
    "again: ld.volatile.shared.u32 %x, [cell]; add.u32 %x, %x, 1; st.volatile.shared.u32 [cell], %x;\n"
    "sub.u64 %n, %n, 1; setp.ne.u64 %p, %n, 0; @%p bra again;\n"
    "ret; }\n";
enum { ROUND_CYCLES = 33 }; /* about; shares are told against the same program without a hook */

static int64_t kernel_ns, seconds_ns, warm_ns, think_ns;
static unsigned int grid;
static const char *mode;
static int stream_count, processes, programs, gpu;
static int64_t launches; /* atomic */

static struct {
    const char *region;
    int64_t at, undo_at, offset, size, value, undo_value, read;
} writing;

static void *write_region(void *unused) {
    (void)unused;
    int64_t value[2] = { writing.value, writing.undo_value }, at[2] = { writing.at, writing.undo_at - writing.at };
    for (int i = 0; i < 2 && at[i] > 0; i++) {
        struct timespec pause = { .tv_sec = at[i], .tv_nsec = 0 };
        nanosleep(&pause, NULL);
        int fd = open(writing.region, O_WRONLY);
        if (fd < 0 || pwrite(fd, &value[i], (size_t)writing.size, writing.offset) != writing.size) exit(4);
        close(fd);
    }
    return NULL;
}

static int64_t read_region(void) { /* -1: not asked for */
    int64_t value = -1;
    if (writing.read < 0) return value;
    int fd = open(writing.region, O_RDONLY);
    if (fd < 0 || pread(fd, &value, sizeof value, writing.read) != sizeof value) exit(4);
    close(fd);
    return value;
}

static void sleep_until(int64_t when) {
    struct timespec until = { .tv_sec = when / 1000000000, .tv_nsec = when % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void say(int64_t busy, int64_t elapsed, int64_t counted) {
    printf("{\"pid\": %d, \"busy_ns\": %lld, \"elapsed_ns\": %lld, \"launches\": %lld, \"read\": %lld}\n", (int)getpid(),
           (long long)busy, (long long)elapsed, (long long)counted, (long long)read_region());
    fflush(stdout);
}

/* Looks at the clock, not at the launches: one that has to wait must not stretch the time that its work is held against. */
static void *measure(void *begin) {
    int64_t from = *(int64_t *)begin;
    sleep_until(from);
    int64_t busy = fg_process_busy(gpu, getpid()), before = __atomic_load_n(&launches, __ATOMIC_RELAXED);
    sleep_until(from + seconds_ns);
    int64_t now = now_ns();
    say(fg_process_busy(gpu, getpid()) - busy, now - from, __atomic_load_n(&launches, __ATOMIC_RELAXED) - before);
    fg_process_leaves();
    _exit(0);
}

struct meeting {
    int arrived;
};

static void work(struct meeting *meeting) {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction kernel;
    CUstream streams[256] = { NULL };
    CUgraphExec graph = NULL;
    int64_t amount = kernel_ns; /* what the kernel's parameter says: ns, or rounds */
    void *parameters[] = { &amount };
    if (on_fake_machine()) fg_step_back(); /* or time would run for the hook's thread alone until the first launch */
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, on_fake_machine() ? SPIN_PTX : WORK_PTX));
    CHECK(cuModuleGetFunction(&kernel, module, on_fake_machine() ? "spin" : "work"));
    if (!on_fake_machine()) {
        int khz;
        CHECK(cuDeviceGetAttribute(&khz, CU_DEVICE_ATTRIBUTE_CLOCK_RATE, device));
        amount = kernel_ns * khz / 1000000 / ROUND_CYCLES + 1;
    }
    for (int i = 0; i < stream_count; i++) CHECK(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
    if (strcmp(mode, "graph") == 0) {
        CUgraph recorded;
        CHECK(cuStreamBeginCapture_v2(streams[0], CU_STREAM_CAPTURE_MODE_GLOBAL));
        for (int i = 0; i < 10; i++) CHECK(cuLaunchKernel(kernel, grid, 1, 1, 1, 1, 1, 0, streams[0], parameters, NULL));
        CHECK(cuStreamEndCapture(streams[0], &recorded));
        CHECK(cuGraphInstantiateWithFlags(&graph, recorded, 0));
    }
    __atomic_add_fetch(&meeting->arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&meeting->arrived, __ATOMIC_SEQ_CST) < processes) sched_yield();
    if (on_fake_machine()) fg_meet(programs * processes);
    pthread_t writer, meter;
    int64_t begin = now_ns() + warm_ns, before = -1; /* what happens while warming up does not count */
    if (writing.at > 0 && pthread_create(&writer, NULL, write_region, NULL) == 0) pthread_detach(writer);
    if (on_fake_machine() && pthread_create(&meter, NULL, measure, &begin) == 0) pthread_detach(meter);
    while (on_fake_machine() || now_ns() - begin < seconds_ns) {
        if (before < 0 && now_ns() >= begin) { /* what is still queued belongs to the warming up */
            if (!on_fake_machine()) {
                CHECK(cuCtxSynchronize());
                begin = now_ns();
            }
            before = launches;
        }
        CUstream stream = streams[launches % stream_count];
        if (graph) CHECK(cuGraphLaunch(graph, stream));
        else CHECK(cuLaunchKernel(kernel, grid, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        __atomic_add_fetch(&launches, 1, __ATOMIC_RELAXED);
        if (strcmp(mode, "sync") == 0 || strcmp(mode, "think") == 0) CHECK(cuStreamSynchronize(stream));
        if (strcmp(mode, "think") == 0) sleep_until(now_ns() + think_ns);
    }
    CHECK(cuCtxSynchronize()); /* what was launched has then run */
    int64_t counted = launches - before;
    say(counted * kernel_ns * (graph ? 10 : 1), now_ns() - begin, counted);
    _exit(0);
}

int main(int argc, char **argv) {
    kernel_ns = number(argc, argv, "--ns", 100000);
    seconds_ns = (int64_t)(strtod(option(argc, argv, "--seconds", "10"), NULL) * 1e9);
    think_ns = number(argc, argv, "--think-ns", 1000000);
    warm_ns = (int64_t)(strtod(option(argc, argv, "--warm", "0"), NULL) * 1e9);
    grid = (unsigned int)number(argc, argv, "--grid", 1);
    mode = option(argc, argv, "--mode", "async");
    gpu = (int)number(argc, argv, "--gpu", 0);
    stream_count = (int)number(argc, argv, "--streams", 1);
    processes = (int)number(argc, argv, "--processes", 1);
    programs = (int)number(argc, argv, "--programs", 1);
    writing.region = option(argc, argv, "--region", "");
    writing.at = number(argc, argv, "--write-at", 0);
    writing.undo_at = number(argc, argv, "--undo-at", 0);
    writing.offset = number(argc, argv, "--offset", 0);
    writing.size = number(argc, argv, "--size", 8);
    writing.value = number(argc, argv, "--value", 0);
    writing.undo_value = number(argc, argv, "--undo-value", 0);
    writing.read = number(argc, argv, "--read", -1);
    struct meeting *meeting = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (processes == 1) work(meeting);
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child < 0) return 2;
        if (child == 0) work(meeting);
    }
    int status, failed = 0;
    while (wait(&status) > 0) failed |= status;
    return failed != 0;
}
