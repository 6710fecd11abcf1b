"""The shared region, version 1.2, decoded. The layout is `libhook/src/region.h`, where the compiler checks it.

Everything in the file may have been written by a tenant: counts are bounded, nothing is used as an index
before it has been checked, and text that is not UTF-8 is replaced.
"""

import struct
from dataclasses import dataclass

MAGIC = 19920718
HAMI_BYTES = 2_008_952
MAX_DEVICES = 16
MAX_SLOTS = 1024
SLOTS_AT, SLOT_BYTES = 1856, 1960
LOCK_SLOTS = 0x40000000
"""Offset of the first slot's lock byte: a slot is alive while its process holds a record lock there."""


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """One GPU of the container. `memory_limit` bytes and `core_limit` percent; 0 = none."""

    index: int
    uuid: str
    memory_limit: int
    core_limit: int


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One slot. `used` bytes and `busy` percent of GPU time in the last second, both per device."""

    slot: int
    pid: int
    used: tuple[int, ...]
    busy: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Region:
    devices: tuple[DeviceShare, ...]
    processes: tuple[ProcessUse, ...]
    blocked: bool
    """The monitor has told this container's processes to stand still."""

    def used(self, device: int) -> int:
        """Bytes used on a device by all processes."""
        return sum(process.used[device] for process in self.processes)


def decode_region(data: bytes) -> Region:
    """Raises ValueError with a sentence if `data` is no region."""
    if len(data) < HAMI_BYTES:
        raise ValueError(f"it has {len(data)} bytes, a region has at least {HAMI_BYTES}")
    magic, major, minor = struct.unpack_from("<iII", data, 0)
    if magic != MAGIC:
        raise ValueError("it does not start with the region's magic number")
    if (major, minor) != (1, 2):
        raise ValueError(f"its layout is version {major}.{minor}, this reads 1.2")
    (count,) = struct.unpack_from("<Q", data, 56)
    high, _, recent_kernel = struct.unpack_from("<iii", data, 2_008_896)
    if count > MAX_DEVICES or not 0 <= high <= MAX_SLOTS:
        raise ValueError("its device or slot count is out of range")
    limits = struct.unpack_from("<16Q", data, 1600)
    cores = struct.unpack_from("<16Q", data, 1728)
    devices = tuple(
        DeviceShare(
            index,
            data[64 + 96 * index : 160 + 96 * index].split(b"\0")[0].decode(errors="replace"),
            limits[index],
            cores[index] if cores[index] < 100 else 0,
        )
        for index in range(count)
    )
    processes = []
    for slot in range(high):
        at = SLOTS_AT + slot * SLOT_BYTES
        (status,) = struct.unpack_from("<i", data, at + 1928)
        if status == 0:
            continue
        (pid,) = struct.unpack_from("<i", data, at)
        used = tuple(struct.unpack_from("<Q", data, at + 8 + 64 * d + 32)[0] for d in range(count))
        busy = tuple(
            min(100, struct.unpack_from("<Q", data, at + 1160 + 48 * d + 16)[0]) for d in range(count)
        )
        processes.append(ProcessUse(slot, pid, used, busy))
    return Region(devices, tuple(processes), recent_kernel < 0)
