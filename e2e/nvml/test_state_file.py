"""State files that are damaged or just being written: an error, never a crash, never half a file."""

import os
import threading

import pytest

from e2e.nvml.cards import FIRST, UUID, code, l40s
from e2e.nvml.driver import Driver
from e2e.nvml.state import gpu, write

DAMAGED = {
    "empty": "",
    "cut off in a line": "[system]\ndriver_version = 580",
    "binary": "\x00\x01\x02[gpu\n",
    "a line before any section": "uuid = GPU-1\n",
    "an unknown line": "[gpu 0000:3b:00.0]\nuid = GPU-1\n",
    "a GPU without a model": "[gpu 0000:3b:00.0]\nuuid = GPU-1\nmemory_mib = 1\n",
    "no address": "[gpu first]\n",
    "a number that is none": l40s(FIRST, "utilization = much"),
    "a percentage above 100": l40s(FIRST, "utilization = 101"),
    "the same GPU twice": l40s(FIRST) + l40s(FIRST),
    "a process without a pid": l40s(FIRST, "process = compute"),
    "an unknown error": l40s(FIRST, "fail = nvmlDeviceGetUUID HAPPY"),
    "more GPUs than there can be": "".join(gpu(f"0000:{bus:02x}:00.0", "GPU-1") for bus in range(40)),
    "a line without end": "[system]\ndriver_version = " + "5" * 5000 + "\n",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_gives_an_error_until_it_is_whole_again(
    driver: Driver, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    write(driver.state, [text])
    assert code(nvml, nvml.nvmlDeviceGetUUID, handle) == nvml.NVML_ERROR_UNKNOWN
    assert code(nvml, nvml.nvmlDeviceGetCount) == nvml.NVML_ERROR_UNKNOWN
    assert capfd.readouterr().err.count("fake NVML: ") == 1, "said once, with the line"
    other = driver.program()
    assert code(other, other.nvmlInit) == nvml.NVML_ERROR_UNKNOWN
    driver.shows(l40s(FIRST))
    assert nvml.nvmlDeviceGetUUID(handle) == UUID[FIRST]


def test_what_is_no_regular_file_gives_an_error_and_holds_nobody_up(
    driver: Driver, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(driver.state)
    assert code(driver.nvml, driver.nvml.nvmlInit) == driver.nvml.NVML_ERROR_UNKNOWN
    assert "is no regular file" in capfd.readouterr().err


def test_no_reader_sees_half_a_file(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            driver.shows(l40s(FIRST, "process = compute 10\n" * 50))
            driver.shows(l40s(FIRST))

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        counts = {len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)) for _ in range(2000)}
    finally:
        stop.set()
        writer.join()
    assert counts <= {0, 50}
