"""Where programs run: the fake driver, or a real GPU when there is one."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

LOOK = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
if result := cuda.cuInit(0): raise SystemExit(f"the driver answers error {result} to cuInit")
count, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
cuda.cuDeviceGetCount(ctypes.byref(count))
if not count.value: raise SystemExit("the driver shows no device")
cuda.cuDriverGetVersion(ctypes.byref(version))
cuda.cuDeviceGetName(name, 256, 0)
path = next(line.split()[-1] for line in open("/proc/self/maps") if "libcuda.so" in line)
print(json.dumps({"name": name.value.decode(), "version": version.value, "driver": path}))
"""


@dataclass(frozen=True, slots=True)
class RealGpu:
    """The first GPU. `version` as CUDA counts it (12040 = 12.4)."""

    name: str
    version: int
    driver_folder: Path

    def sentence(self) -> str:
        return f"{self.name}, CUDA {self.version // 1000}.{self.version % 1000 // 10}."


@dataclass(frozen=True, slots=True)
class Bed:
    """A built libhook with its test programs, and the driver that they run on."""

    build: Path
    gpu: RealGpu | None = None
    """None: the fake driver."""

    @property
    def libraries(self) -> str:
        """LD_LIBRARY_PATH; it wins over the programs' own path to the fake driver."""
        fake = str(self.build / "tests")
        return f"{self.gpu.driver_folder}:{fake}" if self.gpu else fake


def find_build(build: Path) -> Path:
    """`build` if libhook, its fake driver and its test programs are built there. Raises Rejected."""
    if not (build / "tests/programs/program_cost").is_file():
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"{build} holds no built libhook with its fake driver; run `make hook` in a checkout of poolmgr first, "
            "or name the build folder with --build",
        )
    return build.resolve()


def find_gpu() -> RealGpu | str:
    """The machine's GPU, or the sentence why there is none. Asked in a process of its own, without any hook."""
    variables = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOOK],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "the driver does not answer within a minute"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["no answer"])[-1]
    found = json.loads(done.stdout)
    driver = Path(found["driver"]).resolve()
    if not driver.with_name("libcuda.so.1").exists():
        return f"{driver.parent} holds no libcuda.so.1 beside {driver.name}"
    return RealGpu(found["name"], found["version"], driver.parent)
