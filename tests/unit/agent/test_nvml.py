# ruff: noqa: N802, N815 - the names are NVML's
"""NVML as an optional, possibly hanging, source of names."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from poolmgr.agent import nvml as nvml_module
from poolmgr.agent.nvml import LIBRARY, Nvml, library_below, link_persistenced
from poolmgr.domain.identifiers import PciAddress


class FakeError(Exception):
    """As pynvml's, with NVML's number of it."""

    value = 3  # NVML_ERROR_NOT_SUPPORTED


class FakeLibrary:
    """As much of pynvml as is used, with sessions counted."""

    NVMLError = FakeError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_FEATURE_ENABLED = 1
    NVML_FEATURE_DISABLED = 0
    nvmlPciInfo_t = SimpleNamespace

    def __init__(self) -> None:
        self.open = 0
        self.persistence = 1
        self.calls: list[Any] = []

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == 1:
            raise FakeError("GPU is lost")
        return index

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> bytes:
        return bus_id

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return SimpleNamespace(busId=b"00000000:3B:00.0")

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return b"GPU-a"

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA A10"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=23028 << 20)

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        raise FakeError("Not Supported")

    def nvmlDeviceGetMinorNumber(self, handle: int) -> int:
        return 4

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:
        return 0

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=7), SimpleNamespace(pid=5)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        raise FakeError("Not Supported")

    def nvmlDeviceGetMPSComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=7)]

    def nvmlDeviceGetPersistenceMode(self, handle: bytes) -> int:
        return self.persistence

    def nvmlDeviceSetPersistenceMode(self, handle: bytes, mode: int) -> None:
        self.persistence = mode
        self.calls.append(("persistence", mode))

    def nvmlDeviceModifyDrainState(self, info: Any, state: int) -> None:
        self.calls.append(("drain", info.bus, info.device, state))


async def test_a_lost_gpu_and_unsupported_questions_hide_nothing_else() -> None:
    library = FakeLibrary()
    report = await Nvml(library).read()
    gpu = report.gpus[PciAddress("0000:3b:00.0")]
    assert (gpu.uuid, gpu.model, gpu.memory_mib, gpu.mig_enabled) == ("GPU-a", "NVIDIA A10", 23028, False)
    assert (gpu.minor, gpu.processes) == (4, (5, 7))
    assert len(report.gpus) == 1
    assert library.open == 0, "an open session would pin the GPUs"


async def test_a_mig_mode_that_cannot_be_read_is_not_off() -> None:
    library = FakeLibrary()
    error = FakeError("Unknown Error")
    error.value = 999

    def fail(handle: int) -> list[int]:
        raise error

    library.nvmlDeviceGetMigMode = fail  # type: ignore[method-assign]
    (gpu,) = (await Nvml(library).read()).gpus.values()
    assert gpu.mig_enabled is None


async def test_a_list_of_processes_that_cannot_be_had_is_not_an_empty_one() -> None:
    library = FakeLibrary()
    (gpu,) = (await Nvml(library).read()).gpus.values()
    assert gpu.processes_known, "where the GPU keeps no such list there is nothing to know"
    error = FakeError("Unknown Error")
    error.value = 999

    def fail(handle: int) -> list[Any]:
        raise error

    library.nvmlDeviceGetComputeRunningProcesses = fail  # type: ignore[method-assign]
    (gpu,) = (await Nvml(library).read()).gpus.values()
    assert (gpu.processes, gpu.processes_known) == ((7,), False)


async def test_persistence_that_stays_on_is_told_and_nothing_is_drained() -> None:
    library = FakeLibrary()
    library.nvmlDeviceSetPersistenceMode = lambda handle, mode: None  # type: ignore[method-assign]
    assert await Nvml(library).quiesce(PciAddress("0000:3b:00.0")) == "persistence mode stays on"
    assert library.calls == []


async def test_persistence_that_nvml_may_not_change_is_told() -> None:
    library = FakeLibrary()

    def refuse(handle: bytes, mode: int) -> None:
        raise FakeError("Insufficient Permissions")

    library.nvmlDeviceSetPersistenceMode = refuse  # type: ignore[method-assign]
    assert "Insufficient Permissions" in await Nvml(library).quiesce(PciAddress("0000:3b:00.0"))


async def test_no_library_is_an_answer() -> None:
    library = FakeLibrary()
    library.nvmlInit = lambda: (_ for _ in ()).throw(FakeError("library not found"))  # type: ignore[method-assign]
    report = await Nvml(library).read()
    assert (report.gpus, report.error) == ({}, "NVML: library not found")


async def test_quiesce_ends_persistence_before_it_drains_and_resume_takes_both_back() -> None:
    library = FakeLibrary()
    nvml = Nvml(library)
    assert await nvml.quiesce(PciAddress("0000:3b:00.0")) == ""
    await nvml.resume(PciAddress("0000:3b:00.0"))
    assert library.calls == [
        ("persistence", 0),
        ("drain", 0x3B, 0, 1),
        ("drain", 0x3B, 0, 0),
        ("persistence", 1),
    ]
    assert library.open == 0


async def test_a_hanging_library_is_given_up_and_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_module, "ANSWER_SECONDS", 0.05)
    library = FakeLibrary()
    release = threading.Event()
    asked = []

    def hang() -> None:
        asked.append(1)
        release.wait(10)

    library.nvmlInit = hang  # type: ignore[method-assign]
    nvml = Nvml(library)
    assert "has not answered" in (await nvml.read()).error
    assert "has not answered" in (await nvml.read()).error
    assert "has not answered" in await nvml.quiesce(PciAddress("0000:3b:00.0"))
    assert asked == [1]
    release.set()


@pytest.mark.parametrize("folder", ["usr/lib64", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"])
def test_the_drivers_library_is_found_where_distributions_put_it(tmp_path: Path, folder: str) -> None:
    assert library_below(tmp_path) is None
    library = tmp_path / folder / LIBRARY
    library.parent.mkdir(parents=True)
    library.touch()
    assert library_below(tmp_path) == library


async def test_a_driver_that_is_not_there_yet_is_no_error_of_its_own(tmp_path: Path) -> None:
    library = FakeLibrary()
    assert (await Nvml(library, driver_root=tmp_path).read()).error == ""


def test_the_drivers_persistence_daemon_is_found_below_its_own_folder(tmp_path: Path) -> None:
    there = tmp_path / "driver/run/nvidia-persistenced"
    there.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    link_persistenced(tmp_path / "driver", tmp_path / "run")
    assert (tmp_path / "run/nvidia-persistenced").readlink() == there
    link_persistenced(tmp_path / "driver", tmp_path / "run")  # once more is harmless


@pytest.mark.parametrize(
    "here", ["put there by NVIDIA's runtime", "no daemon", "a root that cannot be written"]
)
def test_nothing_else_is_touched_for_it(here: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if here == "a root that cannot be written":
        (tmp_path / "driver/run/nvidia-persistenced").mkdir(parents=True)
    else:
        run.mkdir()
    if here.startswith("put"):
        (tmp_path / "driver/run/nvidia-persistenced").mkdir(parents=True)
        (run / "nvidia-persistenced").mkdir()
    link_persistenced(tmp_path / "driver", run)
    assert not (run / "nvidia-persistenced").is_symlink()
