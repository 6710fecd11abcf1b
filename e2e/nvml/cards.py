"""The two cards of these tests, and what a failing call says."""

from types import ModuleType

import pytest

from e2e.nvml.state import L40S, gpu

FIRST, SECOND = "0000:3b:00.0", "0000:af:00.0"
UUID = {FIRST: "GPU-11111111-0000-0000-0000-000000000001", SECOND: "GPU-22222222-0000-0000-0000-000000000002"}
MIB = 1 << 20


def l40s(address: str, lines: str = "", minor: int | None = None) -> str:
    return gpu(address, UUID[address], L40S, lines=lines, minor=minor)


def code(nvml: ModuleType, call: object, *arguments: object) -> int:
    """NVML's error of a call that has to fail."""
    assert callable(call)
    with pytest.raises(nvml.NVMLError) as caught:
        call(*arguments)
    value: int = caught.value.value
    return value
