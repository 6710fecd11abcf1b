"""What NVML's documentation says (nvml.h, "NVML API Reference Guide") of MIG devices, asked of the library by NVIDIA's own
binding. Where the documentation leaves a choice, the test says "our choice"."""

from e2e.nvml.cards import FIRST, MIB, SECOND, UUID, code, l40s
from e2e.nvml.driver import Driver
from e2e.nvml.state import A100, gpu

MIG_UUID = "MIG-33333333-0000-0000-0000-000000000003"
DIVIDED = f"""
mig = on
mig_device = gi=1 ci=0 profile=1g.10gb memory_mib=9728 uuid={MIG_UUID}
mig_device = gi=2 ci=0 profile=1c.3g.40gb memory_mib=40192 uuid=MIG-x
process = compute 20 used_mib=100 gi=1 ci=0
process = compute 21 used_mib=200 gi=2 ci=0
"""


def test_mig_devices(driver: Driver) -> None:
    nvml = driver.open(gpu(FIRST, UUID[FIRST], A100, lines=DIVIDED))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert nvml.nvmlDeviceGetMigMode(handle) == [1, 1]
    assert nvml.nvmlDeviceGetMaxMigDeviceCount(handle) == 7
    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)
    assert nvml.nvmlDeviceGetUUID(mig) == MIG_UUID
    assert nvml.nvmlDeviceGetName(mig) == "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
    assert (nvml.nvmlDeviceGetGpuInstanceId(mig), nvml.nvmlDeviceGetComputeInstanceId(mig)) == (1, 0)
    assert nvml.nvmlDeviceIsMigDeviceHandle(mig).value == 1
    assert nvml.nvmlDeviceIsMigDeviceHandle(handle).value == 0
    assert nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)) == UUID[FIRST]
    memory = nvml.nvmlDeviceGetMemoryInfo(mig)
    assert (memory.total, memory.used) == (9728 * MIB, 100 * MIB)
    assert nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByUUID(MIG_UUID.encode())) == MIG_UUID
    second = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 1)
    slices = nvml.nvmlDeviceGetAttributes(second)
    assert (slices.gpuInstanceSliceCount, slices.computeInstanceSliceCount, slices.memorySizeMB) == (
        3,
        1,
        40192,
    )
    assert code(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, 2) == nvml.NVML_ERROR_NOT_FOUND


def test_processes_of_a_mig_device_and_of_the_whole_gpu(driver: Driver) -> None:
    nvml = driver.open(gpu(FIRST, UUID[FIRST], A100, lines=DIVIDED))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 1)
    assert [p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(mig)] == [21]
    everybody = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    assert [(p.pid, p.gpuInstanceId) for p in everybody] == [(20, 1), (21, 2)]
    assert code(nvml, nvml.nvmlDeviceGetUtilizationRates, handle) == nvml.NVML_ERROR_NOT_SUPPORTED


def test_a_mig_handle_is_invalid_once_its_instance_is_destroyed(driver: Driver) -> None:
    nvml = driver.open(gpu(FIRST, UUID[FIRST], A100, lines=DIVIDED))
    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(nvml.nvmlDeviceGetHandleByIndex(0), 0)
    driver.shows(gpu(FIRST, UUID[FIRST], A100, lines="mig = on"))
    assert code(nvml, nvml.nvmlDeviceGetUUID, mig) == nvml.NVML_ERROR_INVALID_ARGUMENT


def test_gpus_without_mig_and_gpus_that_wait_for_it(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST), gpu(SECOND, UUID[SECOND], A100, lines="mig = off\nmig_pending = on"))
    first, second = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    assert code(nvml, nvml.nvmlDeviceGetMigMode, first) == nvml.NVML_ERROR_NOT_SUPPORTED
    assert nvml.nvmlDeviceGetMaxMigDeviceCount(first) == 0, "zero if MIG is not supported or enabled"
    assert nvml.nvmlDeviceGetMigMode(second) == [0, 1]
