"""Whether limits are in force: one small CUDA program is run as any other would be, and asked what it sees.

The program is Python with ctypes; `sentence_of` is pure and tells an operator what was found.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from poolmgr.hookregion.layout import Region, decode_region

PROGRAM = """
import ctypes, json
found = {"loaded": "libvgpu" in open("/proc/self/maps").read()}
def say(**more): print(json.dumps(found | more)); raise SystemExit
try: cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error: say(problem=str(error))
if result := cuda.cuInit(0): say(problem=f"cuInit answers error {result}")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
free, total = ctypes.c_size_t(), ctypes.c_size_t()
if result := cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0): say(problem=f"no context: error {result}")
cuda.cuCtxSetCurrent(context)
if result := cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)): say(problem=f"cuMemGetInfo answers error {result}")
refused = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(total.value + (1 << 20)))
say(total=total.value, refused=bool(refused))
"""
DEFAULT_REGION = Path("/tmp/cudevshr.cache")
"""HAMi's, and so ours."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the program saw. `total` in bytes; `region` None where it has left none."""

    loaded: bool
    problem: str = ""
    total: int = 0
    refused: bool = False
    region: Region | None = None


def probe(environment: Mapping[str, str]) -> Finding:
    """Runs the program in `environment`."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return Finding(True, "a program that only asks for the GPU's memory does not end within a minute")
    if done.returncode != 0 or not done.stdout.strip():
        words = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        return Finding(True, words)
    found = json.loads(done.stdout.splitlines()[-1])
    region = Path(environment.get("CUDA_DEVICE_MEMORY_SHARED_CACHE") or DEFAULT_REGION)
    return Finding(
        found["loaded"],
        found.get("problem", ""),
        found.get("total", 0),
        found.get("refused", False),
        _read(region),
    )


def _read(path: Path) -> Region | None:
    try:
        return decode_region(path.read_bytes())
    except (OSError, ValueError):
        return None


def sentence_of(found: Finding) -> tuple[bool, str]:
    """Whether limits are in force, and the sentence that says so or what to look at."""
    if not found.loaded:
        return False, (
            "Limits are NOT in force: no libvgpu.so is loaded into programs here. Look at LD_PRELOAD and "
            "/etc/ld.so.preload, and whether the program's libc can load it (ldd on the library)."
        )
    if found.problem:
        return (
            False,
            f"This cannot test the limits: libvgpu.so is loaded, but there is no working GPU here ({found.problem}).",
        )
    device = found.region.devices[0] if found.region and found.region.devices else None
    if device is None:
        return False, (
            f"Limits are NOT in force: libvgpu.so is loaded and has opened no shared region; programs see "
            f"{found.total >> 20} MiB. No limit is set (CUDA_DEVICE_MEMORY_LIMIT, /etc/poolmgr/hook.conf), or this build "
            "of the library hooks nothing."
        )
    if not (device.memory_limit or device.core_limit):
        return False, (
            f"Limits are NOT in force: libvgpu.so is loaded, but no limit is set; programs see {found.total >> 20} MiB. "
            "Set CUDA_DEVICE_MEMORY_LIMIT and CUDA_DEVICE_SM_LIMIT, or the node's /etc/poolmgr/hook.conf."
        )
    if device.memory_limit and (found.total > device.memory_limit or not found.refused):
        return False, (
            f"Limits are NOT in force: {device.memory_limit >> 20} MiB are set, but programs see {found.total >> 20} MiB"
            + ("." if found.refused else " and may have more.")
        )
    memory = (
        f"a GPU of {found.total >> 20} MiB, and asking for more was refused"
        if device.memory_limit
        else "all memory"
    )
    time = f"{device.core_limit} % of its time" if device.core_limit else "all of its time"
    return True, f"Limits are in force: programs see {memory}; they may use {time}."
