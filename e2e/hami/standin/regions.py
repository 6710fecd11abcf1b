"""The file that a container's CUDA library shares with the node (layout 1.x), read and written in place.

Offsets are those of the region's published layout on 64-bit machines. All sizes in bytes.
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC, MAJOR = 19920718, 1
SMALLEST = 2_008_952
MAX_DEVICES, SLOT_BYTES = 16, 1960
_LIMIT, _SLOTS, _UUIDS, _DEVICES = 1600, 1856, 64, 56
_SLOT_COUNT, _SWITCH, _RECENT, _PRIORITY, _LAST_KERNEL = 2_008_896, 2_008_900, 2_008_904, 2_008_908, 2_008_912
_SLOT_STATUS, _SLOT_USED, _SLOT_BUSY = 1928, 8, 1160
_USED_BYTES, _BUSY_BYTES = 64, 48


@dataclass(frozen=True)
class DeviceUse:
    """Of all processes of a container on one of its GPUs."""

    uuid: str
    limit: int
    context: int
    module: int
    data: int
    total: int
    busy_percent: int


class Region:
    """Raises ValueError for a file that is no region, OSError for one that cannot be mapped."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < SMALLEST:
                raise ValueError(f"{path}: too small for a shared region")
            self._map = mmap.mmap(file.fileno(), 0)
        if struct.unpack_from("<iI", self._map) != (MAGIC, MAJOR):
            self._map.close()
            raise ValueError(f"{path}: no shared region of layout {MAJOR}")

    def close(self) -> None:
        self._map.close()

    @property
    def priority(self) -> int:
        return self._int(_PRIORITY)

    @property
    def last_kernel_at(self) -> int:
        """Seconds since the epoch; 0 before the first kernel."""
        return self._long(_LAST_KERNEL)

    @property
    def recent_kernel(self) -> int:
        """Above zero: kernels ran lately. Below zero: the container's kernels are held back."""
        return self._int(_RECENT)

    @recent_kernel.setter
    def recent_kernel(self, value: int) -> None:
        struct.pack_into("<i", self._map, _RECENT, value)

    @property
    def utilization_switch(self) -> int:
        """1: the compute limit is in force."""
        return self._int(_SWITCH)

    @utilization_switch.setter
    def utilization_switch(self, value: int) -> None:
        struct.pack_into("<i", self._map, _SWITCH, value)

    def uuids(self) -> list[str]:
        return [uuid for uuid in (self._uuid(number) for number in range(MAX_DEVICES)) if uuid]

    def uses(self) -> list[DeviceUse]:
        """In the container's order of its GPUs."""
        slots = [
            start
            for start in range(_SLOTS, _SLOTS + self._int(_SLOT_COUNT) * SLOT_BYTES, SLOT_BYTES)
            if self._int(start + _SLOT_STATUS)
        ]
        found = []
        for number in range(min(self._long(_DEVICES), MAX_DEVICES)):
            used = [start + _SLOT_USED + number * _USED_BYTES for start in slots]
            context, module, data, total = (
                sum(self._long(at + field * 8) for at in used) for field in (0, 1, 2, 4)
            )
            busy = sum(self._long(start + _SLOT_BUSY + number * _BUSY_BYTES + 16) for start in slots)
            limit = self._long(_LIMIT + number * 8)
            found.append(DeviceUse(self._uuid(number), limit, context, module, data, total, busy))
        return found

    def _uuid(self, number: int) -> str:
        start = _UUIDS + number * 96
        return self._map[start : start + 96].split(b"\0", 1)[0].decode(errors="replace")

    def _int(self, offset: int) -> int:
        value: int = struct.unpack_from("<i", self._map, offset)[0]
        return value

    def _long(self, offset: int) -> int:
        value: int = struct.unpack_from("<Q", self._map, offset)[0]
        return value
