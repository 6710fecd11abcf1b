"""The plugin's health check: one NVML session with events on every GPU, for as long as the plugin serves."""

import logging
import os
import threading
from collections.abc import Callable, Iterable

import pynvml

from e2e.hami.standin.nvml import CRITICAL_EVENTS, NvmlFailed, session

DISABLE, ENABLE = "DP_DISABLE_HEALTHCHECKS", "DP_ENABLE_HEALTHCHECKS"
HARMLESS_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors that an application causes; the GPU is as good as before (NVIDIA's list of Xid errors)."""
WAIT_MILLISECONDS = 5000
log = logging.getLogger(__name__)


def disabled() -> bool:
    """Whether the environment switches the whole check off."""
    named = {word.strip() for word in os.environ.get(DISABLE, "").lower().split(",")}
    return bool(named & {"all", "xids"}) and not os.environ.get(ENABLE)


def watch(uuids: Iterable[str], stop: threading.Event, mark_unhealthy: Callable[[str], None]) -> None:
    """Until `stop`. A GPU that is marked stays so: nothing here makes one healthy again."""
    uuids = list(uuids)
    try:
        with session():
            _watch(uuids, stop, mark_unhealthy)
    except NvmlFailed as error:
        log.error("Failed to start health check: %s; continuing with health checks disabled", error)


def _watch(uuids: list[str], stop: threading.Event, mark_unhealthy: Callable[[str], None]) -> None:
    ignored = HARMLESS_XIDS | _xids(DISABLE)
    ignored -= _xids(ENABLE)
    events = pynvml.nvmlEventSetCreate()
    try:
        for uuid in uuids:
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                supported = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
                pynvml.nvmlDeviceRegisterEvents(handle, CRITICAL_EVENTS & supported, events)
            except pynvml.NVMLError_NotSupported:
                log.warning("Device %s is too old to support healthchecking.", uuid)
            except NvmlFailed as error:
                log.error("Marking device %s as unhealthy: %s", uuid, error)
                mark_unhealthy(uuid)
        while not stop.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(events, WAIT_MILLISECONDS)
            except pynvml.NVMLError_Timeout:
                continue
            except NvmlFailed as error:
                log.error("Error waiting for event: %s; Marking all devices as unhealthy", error)
                for uuid in uuids:
                    mark_unhealthy(uuid)
                stop.wait(1)  # the real one goes round without a pause; an emulated processor is spared that
                continue
            _handle(event, ignored, uuids, mark_unhealthy)
    finally:
        pynvml.nvmlEventSetFree(events)


def _handle(
    event: pynvml.c_nvmlEventData_t,
    ignored: frozenset[int],
    uuids: list[str],
    mark_unhealthy: Callable[[str], None],
) -> None:
    if event.eventType != pynvml.nvmlEventTypeXidCriticalError or event.eventData in ignored:
        return
    try:
        uuid = pynvml.nvmlDeviceGetUUID(event.device)
    except NvmlFailed:
        for each in uuids:
            mark_unhealthy(each)
        return
    uuid = uuid.decode() if isinstance(uuid, bytes) else uuid
    if uuid in uuids:
        log.error(
            "XidCriticalError: Xid=%d on Device=%s; marking device as unhealthy.", event.eventData, uuid
        )
        mark_unhealthy(uuid)


def _xids(variable: str) -> frozenset[int]:
    words = (word.strip() for word in os.environ.get(variable, "").split(","))
    return frozenset(int(word) for word in words if word.isdigit())
