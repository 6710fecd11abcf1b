"""Who is alive in a region, by the kernel's record locks."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolmgr.hookregion.layout import LOCK_SLOTS, MAX_SLOTS
from poolmgr.hookregion.liveness import forget_if_unused, live_slots


@contextmanager
def another_process_holds(path: Path, *slots: int) -> Iterator[None]:
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        descriptor = os.open(path, os.O_RDWR)
        for slot in slots:
            fcntl.fcntl(
                descriptor,
                fcntl.F_SETLK,
                struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, LOCK_SLOTS + slot, 1, 0),
            )
        os.write(ready[1], b".")
        os.close(done[1])
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        yield
    finally:
        os.close(done[1])
        os.waitpid(child, 0)


def region(tmp_path: Path) -> Path:
    path = tmp_path / "x.cache"
    path.write_bytes(b"region")
    return path


def test_slots_that_others_hold_are_alive(tmp_path: Path) -> None:
    path = region(tmp_path)
    held = (0, 3, 4, 700, MAX_SLOTS - 1)
    with another_process_holds(path, *held), another_process_holds(path, 2, 500):
        assert live_slots(path) == frozenset({*held, 2, 500})
    assert live_slots(path) == frozenset()


def test_a_region_in_use_stays_and_an_unused_one_goes(tmp_path: Path) -> None:
    path = region(tmp_path)
    with another_process_holds(path, 1):
        assert not forget_if_unused(path)
    assert path.exists()
    assert forget_if_unused(path)
    assert not path.exists()
    assert forget_if_unused(path), "there is none: nothing binds anybody"
