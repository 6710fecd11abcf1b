/* green N: launches N kernels of 2 ms on a stream of a green context, each waited for, while the primary context is
 * current. */
#include "program.h"

int main(int argc, char **argv) {
    CUcontext context;
    CUmodule module;
    CUfunction kernel;
    CUstream stream;
    int64_t ns = 2000000;
    void *parameters[] = { &ns };
    CHECK(cuInit(0));
    CHECK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, SPIN_PTX));
    CHECK(cuModuleGetFunction(&kernel, module, "spin"));
    CHECK(cuGreenCtxStreamCreate(&stream, NULL, CU_STREAM_NON_BLOCKING, 0));
    for (int i = 0, n = argc > 1 ? atoi(argv[1]) : 0; i < n; i++) {
        CHECK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        CHECK(cuStreamSynchronize(stream));
    }
    return 0;
}
