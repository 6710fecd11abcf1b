"""What NVML's documentation says (nvml.h, "NVML API Reference Guide") of GPUs that come, go or fail, asked of the library by NVIDIA's own
binding. Where the documentation leaves a choice, the test says "our choice"."""

from e2e.nvml.cards import FIRST, MIB, SECOND, UUID, code, l40s
from e2e.nvml.driver import Driver


def test_a_gpu_that_leaves_its_driver_is_lost_to_who_had_it_and_unknown_to_the_next(driver: Driver) -> None:
    """Our choice, from "fallen off the bus or otherwise inaccessible" and from enumeration at nvmlInit."""
    nvml = driver.open(l40s(FIRST), l40s(SECOND))
    first, second = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    driver.shows(l40s(SECOND, minor=1))
    assert code(nvml, nvml.nvmlDeviceGetUUID, first) == nvml.NVML_ERROR_GPU_IS_LOST
    assert code(nvml, nvml.nvmlDeviceGetHandleByIndex, 0) == nvml.NVML_ERROR_GPU_IS_LOST
    assert (nvml.nvmlDeviceGetCount(), nvml.nvmlDeviceGetIndex(second)) == (2, 1), "others keep their index"
    driver.shows(l40s(FIRST), l40s(SECOND))
    assert code(nvml, nvml.nvmlDeviceGetUUID, first) == nvml.NVML_ERROR_GPU_IS_LOST, "until the next nvmlInit"
    driver.shows(l40s(SECOND, minor=1))
    nvml.nvmlShutdown()
    nvml.nvmlInit()
    assert nvml.nvmlDeviceGetCount() == 1
    assert nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(0)) == UUID[SECOND]
    assert nvml.nvmlDeviceGetMinorNumber(nvml.nvmlDeviceGetHandleByIndex(0)) == 1, (
        "the minor number is the card's"
    )


def test_a_gpu_that_comes_is_seen_by_the_next_init(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    driver.shows(l40s(FIRST), l40s(SECOND))
    assert nvml.nvmlDeviceGetCount() == 1
    other = driver.program()
    other.nvmlInit()
    assert other.nvmlDeviceGetCount() == 2


def test_a_lost_gpu_counts_and_hides_no_other(driver: Driver) -> None:
    """nvmlDeviceGetCount_v2 counts all devices, also those that no handle can be had of."""
    nvml = driver.open(l40s(FIRST, "state = lost"), l40s(SECOND))
    assert nvml.nvmlDeviceGetCount() == 2
    assert code(nvml, nvml.nvmlDeviceGetHandleByIndex, 0) == nvml.NVML_ERROR_GPU_IS_LOST
    assert nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(1)) == UUID[SECOND]


def test_a_function_may_fail_on_one_gpu_or_everywhere(driver: Driver) -> None:
    nvml = driver.open(
        l40s(FIRST, "fail = nvmlDeviceGetHandleByIndex NO_PERMISSION"),
        l40s(SECOND, "fail = nvmlDeviceGetMemoryInfo_v2 UNKNOWN"),
    )
    assert code(nvml, nvml.nvmlDeviceGetHandleByIndex, 0) == nvml.NVML_ERROR_NO_PERMISSION, "any ABI of it"
    second = nvml.nvmlDeviceGetHandleByIndex(1)
    assert nvml.nvmlDeviceGetMemoryInfo(second).total == 46068 * MIB, "this very ABI alone"
    driver.shows(l40s(SECOND), fail=("nvmlDeviceGetUUID NO_PERMISSION",))
    assert code(nvml, nvml.nvmlDeviceGetUUID, second) == nvml.NVML_ERROR_NO_PERMISSION
