"""A CUDA program as users write them, in Python: holds memory and keeps launching. Run as a script, not imported.

`gpu_program.py MIB KERNEL_NS [work FILE]`: after each finished kernel it appends one byte to FILE, and works only
while `work` exists.
"""

import ctypes
import sys
import time
from pathlib import Path

mib, kernel_ns, work, progress = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
cuda = ctypes.CDLL("libcuda.so.1")


def check(result: int) -> None:
    if result:
        sys.exit(f"CUDA error {result}")


context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
check(cuda.cuInit(0))
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
check(cuda.cuCtxSetCurrent(context))
check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(mib << 20)))
check(cuda.cuModuleLoadData(ctypes.byref(module), b""))
check(cuda.cuModuleGetFunction(ctypes.byref(kernel), module, f"spin_{kernel_ns}".encode()))
with open(progress, "ab", buffering=0) as file:  # noqa: PTH123
    while True:
        if not work.exists():
            time.sleep(0.05)
            continue
        check(cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None))
        check(cuda.cuCtxSynchronize())
        file.write(b".")
