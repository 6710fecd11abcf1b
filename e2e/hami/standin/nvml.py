"""The GPUs that NVML shows, asked as HAMi's plugin asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pynvml

SYSFS = Path("/sys/bus/pci/devices")
CRITICAL_EVENTS = (
    pynvml.nvmlEventTypeXidCriticalError
    | pynvml.nvmlEventTypeDoubleBitEccError
    | pynvml.nvmlEventTypeSingleBitEccError
)

NvmlFailed = pynvml.NVMLError


@dataclass(frozen=True)
class Seen:
    uuid: str
    index: int
    model: str
    memory: int
    """MiB."""
    numa: int


@contextmanager
def session() -> Iterator[None]:
    """NVML between init and shutdown; sessions nest. Raises NvmlFailed where there is no driver."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def enumerate_gpus() -> list[tuple[str, int]]:
    """UUID and index of every GPU. Raises NvmlFailed."""
    with session():
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [(_text(pynvml.nvmlDeviceGetUUID(handle)), index) for index, handle in enumerate(handles)]


def look_up(uuid: str) -> Seen:
    """One GPU inside a session. Raises NvmlFailed where it is gone."""
    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    model = _text(pynvml.nvmlDeviceGetName(handle))
    return Seen(
        uuid=uuid,
        index=pynvml.nvmlDeviceGetIndex(handle),
        model=model if model.startswith("NVIDIA") else f"NVIDIA-{model}",
        memory=pynvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
        numa=_numa(_text(pynvml.nvmlDeviceGetPciInfo(handle).busId)),
    )


def _numa(bus_id: str) -> int:
    """The GPU's NUMA node by sysfs, 0 where it has none. NVML writes eight digits of domain, sysfs four."""
    address = bus_id.lower().removeprefix("0000")
    try:
        return max(int((SYSFS / address / "numa_node").read_text()), 0)
    except (OSError, ValueError):
        return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
