"""What NVML's documentation says (nvml.h, "NVML API Reference Guide") of what programs set, asked of the library by NVIDIA's own
binding. Where the documentation leaves a choice, the test says "our choice"."""

import os
import tempfile
from pathlib import Path

import pytest

from e2e.nvml.cards import FIRST, SECOND, UUID, code, l40s
from e2e.nvml.driver import Driver

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as NVML says")
NOBODY = 65534


@as_root
def test_a_draining_gpu_is_not_seen_by_new_programs(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST, "persistence = on"), l40s(SECOND))
    handle = nvml.nvmlDeviceGetHandleByPciBusId(FIRST.encode())
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    drain = nvml.nvmlDeviceModifyDrainState
    assert code(nvml, drain, pci, 1) == nvml.NVML_ERROR_IN_USE, "the device has persistence mode turned on"
    nvml.nvmlDeviceSetPersistenceMode(handle, nvml.NVML_FEATURE_DISABLED)
    assert nvml.nvmlDeviceGetPersistenceMode(handle) == nvml.NVML_FEATURE_DISABLED
    drain(pci, nvml.NVML_FEATURE_ENABLED)
    assert nvml.nvmlDeviceQueryDrainState(pci) == nvml.NVML_FEATURE_ENABLED
    assert nvml.nvmlDeviceGetUUID(handle) == UUID[FIRST], "who had it still has it"
    other = driver.program()
    other.nvmlInit()
    assert other.nvmlDeviceGetCount() == 1
    assert code(other, other.nvmlDeviceGetHandleByPciBusId, FIRST.encode()) == nvml.NVML_ERROR_NOT_FOUND
    other.nvmlDeviceModifyDrainState(pci, nvml.NVML_FEATURE_DISABLED)
    assert nvml.nvmlDeviceQueryDrainState(pci) == nvml.NVML_FEATURE_DISABLED


def test_only_root_sets(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to other users
        Path(folder).chmod(0o755)
        driver.state = Path(folder) / "gpus"
        monkeypatch.setenv("FAKE_NVML_STATE", str(driver.state))
        _refused_to_others(driver)


def _refused_to_others(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        assert code(nvml, nvml.nvmlDeviceSetPersistenceMode, handle, 1) == nvml.NVML_ERROR_NO_PERMISSION
    finally:
        os.seteuid(mine)
