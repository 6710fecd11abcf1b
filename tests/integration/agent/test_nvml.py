"""The agent's reading of NVML, on a `libnvidia-ml.so.1` that is held to NVML's documentation (`e2e/nvml`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.nvml.driver import Driver
from e2e.nvml.library import LIBRARY, ensure_nvml_library
from e2e.nvml.state import A100, L40S, gpu, write
from poolmgr.agent.nvml import Nvml
from poolmgr.domain.identifiers import PciAddress

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set anything through NVML")
FIRST, SECOND = PciAddress("0000:3b:00.0"), PciAddress("0000:af:00.0")


async def test_gpus_are_known_by_their_addresses_in_sysfs(driver: Driver) -> None:
    driver.shows(gpu(FIRST, "GPU-1", L40S), gpu(SECOND, "GPU-2", A100, lines="mig = on"))
    report = await Nvml(driver.nvml).read()
    assert (report.error, set(report.gpus)) == ("", {FIRST, SECOND})
    first, second = report.gpus[FIRST], report.gpus[SECOND]
    assert (first.uuid, first.model, first.memory_mib, first.mig_enabled) == (
        "GPU-1",
        "NVIDIA L40S",
        46068,
        False,
    )
    assert second.mig_enabled


async def test_who_uses_a_gpu_is_told_by_its_device_file_its_processes_and_its_mig_devices(
    driver: Driver,
) -> None:
    lines = "mig = on\nmig_device = gi=1 ci=0 profile=1g.10gb memory_mib=9728 uuid=MIG-1\n"
    lines += "process = compute 41\nprocess = graphics 42\nprocess = mps 43\n"
    driver.shows(gpu(FIRST, "GPU-1", A100, minor=3, lines=lines), gpu(SECOND, "GPU-2", L40S, minor=1))
    found = (await Nvml(driver.nvml).read()).gpus
    assert (found[FIRST].minor, found[FIRST].processes, found[FIRST].mig_uuids) == (
        3,
        (41, 42, 43),
        ("MIG-1",),
    )
    assert (found[SECOND].minor, found[SECOND].processes, found[SECOND].mig_uuids) == (1, (), ())


async def test_each_reading_sees_the_gpus_that_are_there_then(driver: Driver) -> None:
    nvml = Nvml(driver.nvml)
    driver.shows(gpu(FIRST, "GPU-1"), gpu(SECOND, "GPU-2"))
    assert set((await nvml.read()).gpus) == {FIRST, SECOND}
    driver.shows(gpu(SECOND, "GPU-2"))
    assert set((await nvml.read()).gpus) == {SECOND}
    driver.shows(gpu(FIRST, "GPU-1", lines="state = lost"), gpu(SECOND, "GPU-2"))
    assert set((await nvml.read()).gpus) == {SECOND}, "a lost GPU hides no other"


async def test_why_nothing_is_known_is_said(driver: Driver) -> None:
    nvml = Nvml(driver.nvml)
    assert "Driver Not Loaded" in (await nvml.read()).error
    write(driver.state, ["damaged"])
    assert (await nvml.read()).error == "NVML: Unknown Error"


@as_root
async def test_a_quiesced_gpu_is_closed_to_others_and_open_again_when_resumed(driver: Driver) -> None:
    nvml = Nvml(driver.nvml)
    driver.shows(gpu(FIRST, "GPU-1", lines="persistence = on"), gpu(SECOND, "GPU-2"))
    await nvml.quiesce(FIRST)
    assert set((await nvml.read()).gpus) == {SECOND}, "any new NVML process will no longer see this GPU"
    await nvml.resume(FIRST)
    assert set((await nvml.read()).gpus) == {FIRST, SECOND}


@as_root
async def test_a_gpu_that_was_persistent_is_so_again_after_its_return(driver: Driver) -> None:
    nvml = Nvml(driver.nvml)
    driver.shows(gpu(FIRST, "GPU-1", lines="persistence = on"))
    await nvml.quiesce(FIRST)
    await nvml.resume(FIRST)
    other = driver.program()
    other.nvmlInit()
    handle = other.nvmlDeviceGetHandleByPciBusId(FIRST.encode())
    assert other.nvmlDeviceGetPersistenceMode(handle) == other.NVML_FEATURE_ENABLED


PROGRAM = """
import asyncio, sys
from pathlib import Path
from poolmgr.agent.nvml import Nvml
nvml = Nvml(driver_root=Path(sys.argv[1]))
print(asyncio.run(nvml.read()).error)
input()
print(sorted(asyncio.run(nvml.read()).gpus))
"""


def test_nvml_is_taken_from_the_drivers_root_once_the_driver_is_there(driver: Driver, tmp_path: Path) -> None:
    """The real pynvml, in a program of its own, whose linker finds no NVML."""
    driver.shows(gpu(FIRST, "GPU-1"))
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "root")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"},
    )
    assert program.stdout and program.stdin
    assert "Not Found" in program.stdout.readline()
    folder = tmp_path / "root/usr/lib64"
    folder.mkdir(parents=True)
    (folder / LIBRARY).write_bytes(ensure_nvml_library(named=True).read_bytes())
    assert str(FIRST) in program.communicate("\n")[0]
