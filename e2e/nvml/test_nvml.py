"""What NVML's documentation says (nvml.h, "NVML API Reference Guide") of sessions, devices and processes, asked of the library by NVIDIA's own
binding. Where the documentation leaves a choice, the test says "our choice"."""

from ctypes import c_char_p

import pytest

from e2e.nvml.cards import FIRST, MIB, SECOND, UUID, code, l40s
from e2e.nvml.driver import Driver
from e2e.nvml.state import T4, gpu


def test_nothing_is_answered_before_init_and_after_the_last_shutdown(driver: Driver) -> None:
    driver.shows(l40s(FIRST))
    nvml = driver.nvml
    assert code(nvml, nvml.nvmlDeviceGetCount) == nvml.NVML_ERROR_UNINITIALIZED
    assert code(nvml, nvml.nvmlShutdown) == nvml.NVML_ERROR_UNINITIALIZED
    nvml.nvmlInit()
    nvml.nvmlInit()
    nvml.nvmlShutdown()
    assert nvml.nvmlDeviceGetCount() == 1, "a reference count of the number of initializations is maintained"
    nvml.nvmlShutdown()
    assert code(nvml, nvml.nvmlDeviceGetCount) == nvml.NVML_ERROR_UNINITIALIZED
    assert code(nvml, nvml.nvmlSystemGetDriverVersion) == nvml.NVML_ERROR_UNINITIALIZED


def test_init_fails_where_no_driver_is_running(driver: Driver) -> None:
    nvml = driver.nvml
    assert code(nvml, nvml.nvmlInit) == nvml.NVML_ERROR_DRIVER_NOT_LOADED, "no state file: no driver"
    driver.shows(l40s(FIRST), fail=("nvmlInit LIB_RM_VERSION_MISMATCH",))
    assert code(nvml, nvml.nvmlInit) == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH


def test_versions(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    assert nvml.nvmlSystemGetDriverVersion() == "580.159.03"
    assert nvml.nvmlSystemGetNVMLVersion() == "13.580.159.03"
    assert nvml.nvmlSystemGetCudaDriverVersion_v2() == 13000


def test_errors_have_nvidias_words(driver: Driver) -> None:
    nvml = driver.nvml
    text = nvml.nvmlLib.nvmlErrorString
    text.restype = c_char_p
    assert text(nvml.NVML_ERROR_GPU_IS_LOST) == b"GPU is lost"
    assert text(nvml.NVML_ERROR_NO_PERMISSION) == b"Insufficient Permissions"
    assert text(12345) == b"Unknown Error"


def test_a_gpus_identity(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST, minor=3), gpu(SECOND, UUID[SECOND], T4, lines="serial = 1324"))
    first, second = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount()))
    assert nvml.nvmlDeviceGetUUID(first) == UUID[FIRST]
    assert nvml.nvmlDeviceGetName(first) == "NVIDIA L40S"
    assert nvml.nvmlDeviceGetMinorNumber(first) == 3
    assert nvml.nvmlDeviceGetMinorNumber(second) == 1
    assert nvml.nvmlDeviceGetIndex(second) == 1
    assert nvml.nvmlDeviceGetSerial(second) == "1324"
    assert code(nvml, nvml.nvmlDeviceGetSerial, first) == nvml.NVML_ERROR_NOT_SUPPORTED
    assert nvml.nvmlDeviceGetCudaComputeCapability(second) == (7, 5)
    assert nvml.nvmlDeviceGetArchitecture(second) == nvml.NVML_DEVICE_ARCH_TURING
    assert nvml.nvmlDeviceGetArchitecture(first) == nvml.NVML_DEVICE_ARCH_ADA


def test_pci_addresses_have_nvmls_form(driver: Driver) -> None:
    """busId: "%08X:%02X:%02X.0", busIdLegacy: "%04X:%02X:%02X.0"; device id and vendor id in one number."""
    nvml = driver.open(l40s(SECOND))
    pci = nvml.nvmlDeviceGetPciInfo(nvml.nvmlDeviceGetHandleByIndex(0))
    assert (pci.busId, pci.busIdLegacy) == ("00000000:AF:00.0", "0000:AF:00.0")
    assert (pci.domain, pci.bus, pci.device, pci.pciDeviceId) == (0, 0xAF, 0, 0x26B910DE)


@pytest.mark.parametrize("written", [FIRST, "00000000:3B:00.0", "0000:3b:0", "3B:00.0"])
def test_a_handle_by_pci_address_takes_the_documented_forms(driver: Driver, written: str) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByPciBusId(written.encode())
    assert nvml.nvmlDeviceGetUUID(handle) == UUID[FIRST]


def test_handles_that_there_are_not(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    by_bus, by_uuid = nvml.nvmlDeviceGetHandleByPciBusId, nvml.nvmlDeviceGetHandleByUUID
    assert code(nvml, by_bus, SECOND.encode()) == nvml.NVML_ERROR_NOT_FOUND
    assert code(nvml, by_bus, b"here") == nvml.NVML_ERROR_INVALID_ARGUMENT
    assert code(nvml, by_uuid, UUID[SECOND].encode()) == nvml.NVML_ERROR_NOT_FOUND
    assert code(nvml, nvml.nvmlDeviceGetHandleByIndex, 1) == nvml.NVML_ERROR_INVALID_ARGUMENT
    assert code(nvml, nvml.nvmlDeviceGetUUID, nvml.c_nvmlDevice_t()) == nvml.NVML_ERROR_INVALID_ARGUMENT


def test_memory(driver: Driver) -> None:
    """The first ABI counts what the driver keeps for itself as used, the second tells it apart."""
    nvml = driver.open(l40s(FIRST, "reserved_mib = 600\nprocess = compute 10 used_mib=400"))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    first = nvml.nvmlDeviceGetMemoryInfo(handle)
    assert (first.total, first.used, first.free) == (46068 * MIB, 1000 * MIB, 45068 * MIB)
    second = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    assert (second.reserved, second.used, second.free) == (600 * MIB, 400 * MIB, 45068 * MIB)
    wrong = nvml.nvmlMemory_v2 + 1
    assert (
        code(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, wrong) == nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
    )


def test_utilisation_follows_the_file(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST, "utilization = 30\nmemory_utilization = 7"))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    assert (rates.gpu, rates.memory) == (30, 7)
    driver.shows(l40s(FIRST, "utilization = 95"))
    assert nvml.nvmlDeviceGetUtilizationRates(handle).gpu == 95


def test_what_a_device_does_not_tell_is_not_supported(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert code(nvml, nvml.nvmlDeviceGetFanSpeed, handle) == nvml.NVML_ERROR_NOT_SUPPORTED


def test_processes_by_what_they_do(driver: Driver) -> None:
    nvml = driver.open(
        l40s(
            FIRST,
            "process = compute 10 used_mib=300\nprocess = graphics 11\nprocess = compute+graphics 12 used_mib=5\n"
            "process = mps 13 used_mib=7",
        )
    )
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    compute = [(p.pid, p.usedGpuMemory) for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    assert compute == [(10, 300 * MIB), (12, 5 * MIB)]
    graphics = [(p.pid, p.usedGpuMemory) for p in nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)]
    assert graphics == [(11, None), (12, 5 * MIB)], "memory that is not told is NVML_VALUE_NOT_AVAILABLE"
    assert [p.pid for p in nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)] == [13]
    driver.shows(l40s(FIRST))
    assert nvml.nvmlDeviceGetComputeRunningProcesses(handle) == []


def test_a_buffer_that_is_too_small_is_told_how_many_there_are(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST, "process = compute 10\nprocess = compute 11"))
    count = nvml.c_uint(1)
    room = (nvml.c_nvmlProcessInfo_v2_t * 1)()
    ask = nvml._nvmlGetFunctionPointer("nvmlDeviceGetComputeRunningProcesses_v3")
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert ask(handle, nvml.byref(count), room) == nvml.NVML_ERROR_INSUFFICIENT_SIZE
    assert count.value == 2
    assert ask(handle, None, None) == nvml.NVML_ERROR_INVALID_ARGUMENT


def test_process_utilisation_has_who_was_busy(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST, "process = compute 10 sm=40 memory=5\nprocess = compute 11"))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    (sample,) = nvml.nvmlDeviceGetProcessUtilization(handle, 0)
    assert (sample.pid, sample.smUtil, sample.memUtil) == (10, 40, 5)
    driver.shows(l40s(FIRST, "process = compute 11"))
    assert code(nvml, nvml.nvmlDeviceGetProcessUtilization, handle, 0) == nvml.NVML_ERROR_NOT_FOUND
