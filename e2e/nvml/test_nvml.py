"""What NVML's documentation says (nvml.h, "NVML API Reference Guide"), asked of the library by NVIDIA's own binding.

Each test names what the documentation says of the call; where it leaves a choice, the test says "our choice".
"""

import os
import threading
from ctypes import c_char_p
from pathlib import Path
from types import ModuleType

import pytest

from e2e.nvml.driver import Driver
from e2e.nvml.state import A100, L40S, T4, gpu, write
from e2e.parts import PartMissing

FIRST, SECOND = "0000:3b:00.0", "0000:af:00.0"
UUID = {FIRST: "GPU-11111111-0000-0000-0000-000000000001", SECOND: "GPU-22222222-0000-0000-0000-000000000002"}
MIB = 1 << 20
PATIENCE_MS = 60_000
"""Longest wait for an event that is sure to come, on however busy a machine."""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    try:
        made = Driver(tmp_path)
    except PartMissing as missing:
        pytest.skip(str(missing))
    monkeypatch.setenv("FAKE_NVML_STATE", str(made.state))
    return made


def l40s(address: str, lines: str = "", minor: int | None = None) -> str:
    return gpu(address, UUID[address], L40S, lines=lines, minor=minor)


def code(nvml: ModuleType, call: object, *arguments: object) -> int:
    """NVML's error of a call that has to fail."""
    assert callable(call)
    with pytest.raises(nvml.NVMLError) as caught:
        call(*arguments)
    value: int = caught.value.value
    return value


# -- initialising -----------------------------------------------------------------------------------------


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


# -- devices ----------------------------------------------------------------------------------------------


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


# -- processes --------------------------------------------------------------------------------------------


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


# -- MIG --------------------------------------------------------------------------------------------------

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


# -- GPUs that come and go --------------------------------------------------------------------------------


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


# -- events -----------------------------------------------------------------------------------------------


def watch(nvml: ModuleType, *handles: object) -> object:
    events = nvml.nvmlEventSetCreate()
    for handle in handles:
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
    return events


def test_events_after_registration_are_delivered_once_and_in_order(driver: Driver) -> None:
    """All events that occurred before nvmlDeviceRegisterEvents are not recorded."""
    nvml = driver.open(l40s(FIRST, "event = 1 xid 13"), l40s(SECOND))
    first, second = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    events = watch(nvml, first, second)
    assert code(nvml, nvml.nvmlEventSetWait_v2, events, 0) == nvml.NVML_ERROR_TIMEOUT
    driver.shows(
        l40s(FIRST, "event = 3 xid 79\nevent = 1 xid 13\nevent = 2 xid 31"),
        l40s(SECOND, "event = 1 double_bit_ecc"),
    )
    delivered = [nvml.nvmlEventSetWait_v2(events, PATIENCE_MS) for _ in range(2)]
    assert [(e.eventType, e.eventData) for e in delivered] == [(8, 31), (8, 79)]
    assert nvml.nvmlDeviceGetUUID(delivered[0].device) == UUID[FIRST]
    assert delivered[0].gpuInstanceId == 0xFFFFFFFF
    assert code(nvml, nvml.nvmlEventSetWait_v2, events, 0) == nvml.NVML_ERROR_TIMEOUT, "ECC was not asked for"
    nvml.nvmlEventSetFree(events)
    assert code(nvml, nvml.nvmlEventSetWait_v2, events, 0) == nvml.NVML_ERROR_INVALID_ARGUMENT


def test_waiting_ends_when_an_event_arrives_and_others_are_served_meanwhile(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    events = watch(nvml, handle)
    seen: list[int] = []
    waiting = threading.Thread(
        target=lambda: seen.append(nvml.nvmlEventSetWait_v2(events, PATIENCE_MS).eventData), daemon=True
    )
    waiting.start()
    assert nvml.nvmlDeviceGetUUID(handle) == UUID[FIRST]
    driver.shows(l40s(FIRST, "event = 1 xid 79"))
    waiting.join(PATIENCE_MS / 1000)
    assert seen == [79]


def test_waiting_for_events_of_a_gpu_that_is_lost_fails(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    events = watch(nvml, nvml.nvmlDeviceGetHandleByIndex(0))
    driver.shows(l40s(FIRST, "state = lost\nevent = 1 xid 79"))
    assert nvml.nvmlEventSetWait_v2(events, 0).eventData == 79, "what happened before is told first"
    assert code(nvml, nvml.nvmlEventSetWait_v2, events, PATIENCE_MS) == nvml.NVML_ERROR_GPU_IS_LOST


def test_event_types_that_a_device_has_not_are_refused(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert nvml.nvmlDeviceGetSupportedEventTypes(handle) & nvml.nvmlEventTypeXidCriticalError
    events = nvml.nvmlEventSetCreate()
    register = nvml.nvmlDeviceRegisterEvents
    assert code(nvml, register, handle, nvml.nvmlEventTypePState, events) == nvml.NVML_ERROR_NOT_SUPPORTED


# -- what programs set ------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as NVML says")


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


@pytest.mark.skipif(os.geteuid() == 0, reason="this run is root")
def test_only_root_sets(driver: Driver) -> None:
    nvml = driver.open(l40s(FIRST))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert code(nvml, nvml.nvmlDeviceSetPersistenceMode, handle, 1) == nvml.NVML_ERROR_NO_PERMISSION


# -- files that are none ----------------------------------------------------------------------------------

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
