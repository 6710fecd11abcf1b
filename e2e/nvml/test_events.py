"""What NVML's documentation says (nvml.h, "NVML API Reference Guide") of events, asked of the library by NVIDIA's own
binding. Where the documentation leaves a choice, the test says "our choice"."""

import threading
from types import ModuleType

from e2e.nvml.cards import FIRST, SECOND, UUID, code, l40s
from e2e.nvml.driver import Driver

PATIENCE_MS = 60_000
"""Longest wait for an event that is sure to come, on however busy a machine."""


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
