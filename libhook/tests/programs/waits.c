/* Legal programs whose streams stand still until this very program lets them go on, and captures that other threads'
 * questions must not break. The same on every driver; `waits CASE` prints "went on", or HANGS after a minute. */
#include "program.h"

#include <pthread.h>
#include <signal.h>

static CUcontext context;
static CUmodule module;
static CUfunction spin;
static CUstream stream;
static CUevent event;
static volatile int flag;

static void give_up(int unused) {
    static const char text[] = "HANGS\n";
    (void)unused, (void)!write(STDOUT_FILENO, text, sizeof text - 1);
    _exit(9);
}

static void launch(CUstream onto, int64_t ns) {
    void *parameters[] = { &ns };
    CHECK(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, onto, parameters, NULL));
}

/* Often enough that the hook believes what it costs. */
static void make_known(CUstream onto, int64_t ns, int times) {
    for (int i = 0; i < times; i++) {
        launch(onto, ns);
        CHECK(cuStreamSynchronize(onto));
    }
}

static void gate(int value) { CHECK(cuStreamWaitValue32_v2(stream, (CUdeviceptr)(uintptr_t)&flag, (cuuint32_t)value, 0)); }

/* The first launch of all goes onto a stream that waits for what this thread writes afterwards. */
static void gate_first(void) {
    gate(1);
    launch(stream, 100000);
    flag = 1;
}

static void gate_queue(void) {
    make_known(stream, 100000, 20);
    gate(1);
    for (int i = 0; i < 100; i++) launch(stream, 100000);
    flag = 1;
}

/* Every frame waits for a value that is written once its work is queued: for a second, so that a hook that looks at a
 * part of each second only looks too. */
static void gate_frames(void) {
    int64_t end = now_ns() + 1500000000;
    for (int i = 1; now_ns() < end; i++) {
        gate(i);
        launch(stream, 100000);
        flag = i;
        CHECK(cuStreamSynchronize(stream));
        usleep(500);
    }
}

/* As nvbench does: a kernel runs until everything to be measured is queued behind it. */
static void blocking_kernel(void) {
    CUfunction hold;
    volatile int *word = &flag;
    void *parameters[] = { &word };
    CHECK(cuModuleGetFunction(&hold, module, "hold"));
    make_known(stream, 100000, 20);
    CHECK(cuLaunchKernel(hold, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
    for (int i = 0; i < 200; i++) {
        launch(stream, 100000);
        if (i % 20 == 0) usleep(2000);
    }
    flag = 1;
}

static void *fill(void *unused) {
    (void)unused;
    CHECK(cuCtxSetCurrent(context));
    for (int i = 0; i < 1500; i++) launch(stream, 1000);
    return NULL;
}

/* One thread waits in the driver for room behind a gate; another asks for an unrelated event before it opens the gate. */
static void full_queue(void) {
    pthread_t filler;
    CUstream other;
    CHECK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventRecord(event, other));
    CHECK(cuEventSynchronize(event));
    make_known(stream, 1000, 40);
    gate(1);
    pthread_create(&filler, NULL, fill, NULL);
    usleep(500000);
    CHECK(cuEventQuery(event));
    flag = 1;
    pthread_join(filler, NULL);
}

static void *ask(void *unused) {
    (void)unused;
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuEventQuery(event));
    return NULL;
}

static void end_capture(CUstream captured) {
    CUgraph graph;
    CUresult result = cuStreamEndCapture(captured, &graph);
    if (result != CUDA_SUCCESS) printf("the capture is broken: %d\n", (int)result);
}

/* Work on the default stream, then a capture of a stream that is ordered with it, during which another thread asks. */
static void capture(void) {
    CUstream ordered, other;
    pthread_t asker;
    CHECK(cuStreamCreate(&ordered, CU_STREAM_DEFAULT));
    CHECK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventRecord(event, other));
    CHECK(cuEventSynchronize(event));
    make_known(NULL, 20000, 20);
    launch(NULL, 20000);
    CHECK(cuStreamBeginCapture_v2(ordered, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    launch(ordered, 20000);
    pthread_create(&asker, NULL, ask, NULL);
    pthread_join(asker, NULL);
    usleep(20000);
    end_capture(ordered);
}

/* Global captures forbid every thread's questions about events, the hook's own too, while work is measured. */
static void *keep_busy(void *onto) {
    CHECK(cuCtxSetCurrent(context));
    while (!flag) launch((CUstream)onto, 20000);
    return NULL;
}
static void capture_global(void) {
    CUstream other;
    pthread_t worker;
    CHECK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    make_known(other, 20000, 20);
    pthread_create(&worker, NULL, keep_busy, other);
    for (int i = 0; i < 50; i++) {
        CHECK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        launch(stream, 20000);
        usleep(2000);
        end_capture(stream);
    }
    flag = 1;
    pthread_join(worker, NULL);
    CHECK(cuStreamSynchronize(other));
}

/* CUDA 13.3's: launches are recorded, not run. Found as programs find what is newer than they are. */
static void recapture(void) {
    make_known(stream, 20000, 20);
    launch(stream, 20000); /* a batch is open when it begins */
    CHECK(cuStreamBeginRecaptureToGraph(stream, CU_STREAM_CAPTURE_MODE_RELAXED, NULL, NULL, NULL));
    for (int i = 0; i < 3; i++) launch(stream, 20000);
    usleep(20000);
    end_capture(stream);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = { { "gate-first", gate_first }, { "gate-queue", gate_queue }, { "gate-frames", gate_frames },
                  { "blocking-kernel", blocking_kernel }, { "full-queue", full_queue }, { "capture", capture },
                  { "capture-global", capture_global }, { "recapture", recapture } };
    CUdevice device;
    signal(SIGALRM, give_up);
    alarm(60);
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&spin, module, "spin"));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&event, 0));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc < 2 || strcmp(argv[1], cases[i].name) != 0) continue;
        cases[i].run();
        CHECK(cuStreamSynchronize(stream));
        puts("went on");
        return 0;
    }
    return 3;
}
