"""Who is alive in a region: the kernel's record locks tell, in every PID namespace and whatever became of a pid."""

import fcntl
import os
import struct
from pathlib import Path

from poolmgr.hookregion.layout import LOCK_SLOTS, MAX_SLOTS

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of Linux on 64-bit machines: type, whence, start, length, pid."""


def _lock_holder(descriptor: int, start: int, length: int) -> int:
    """A slot in [start, start + length) that somebody holds, -1 if there is none."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, LOCK_SLOTS + start, length, 0)
    kind, _, at, _, _ = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    return -1 if kind == fcntl.F_UNLCK else max(int(at) - LOCK_SLOTS, start)


def live_slots(path: Path) -> frozenset[int]:
    """Slots whose process lives. Raises OSError where the file cannot be opened."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found: set[int] = set()
        ranges = [(0, MAX_SLOTS)]
        while ranges:
            start, end = ranges.pop()
            slot = _lock_holder(descriptor, start, end - start) if start < end else -1
            if slot >= 0:  # the kernel tells any one of the locks in the range
                found.add(slot)
                ranges += [(start, slot), (slot + 1, end)]
        return frozenset(found)
    finally:
        os.close(descriptor)


def forget_if_unused(path: Path) -> bool:
    """Removes a region that nobody uses any more, so that its limits bind nobody later. True if it is gone."""
    try:
        if live_slots(path):
            return False
        path.unlink()
    except FileNotFoundError:
        pass
    return True
