/* A library of a program, linked to the driver as usual; bypass.c loads it in unusual ways. */
#include <cuda.h>
#include <stddef.h>

CUresult inner_take(size_t bytes);
CUresult inner_take(size_t bytes) {
    CUcontext context;
    CUdeviceptr address;
    CUresult result = cuInit(0);
    if (result == CUDA_SUCCESS) result = cuDevicePrimaryCtxRetain(&context, 0);
    if (result == CUDA_SUCCESS) result = cuCtxSetCurrent(context);
    return result == CUDA_SUCCESS ? cuMemAlloc_v2(&address, bytes) : result;
}
