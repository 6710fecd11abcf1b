"""Old copies of libhook: gone once nobody uses them, and never before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolmgr.agent.hook_install import HookPlace
from poolmgr.agent.hook_prune import EVERY_SECONDS, KEEP_NEWEST, CopyPruner, prune_copies

DAY = 86_400.0
NOW = 1_800_000_000.0


def store(tmp_path: Path, ages: list[float]) -> tuple[HookPlace, list[Path]]:
    """A store with copies of these ages (days), oldest first, and a node without processes."""
    place = HookPlace(tmp_path / "image.so", tmp_path / "vgpu", tmp_path / "hook")
    for folder in (place.folder, place.store, tmp_path / "proc"):
        folder.mkdir()
    copies: list[Path] = []
    for age in sorted(ages, reverse=True):
        copy = place.store / f"libvgpu-{len(copies):016x}.so"
        copy.write_bytes(b"\x7fELF" + bytes(4096))
        os.utime(copy, (NOW - age * DAY, NOW - age * DAY))
        copies.append(copy)
    place.target.symlink_to(copies[-1])
    return place, copies


def process(tmp_path: Path, pid: int, *, maps: str = "", mountinfo: str = "") -> Path:
    folder = tmp_path / "proc" / str(pid)
    folder.mkdir()
    (folder / "maps").write_text(maps)
    (folder / "mountinfo").write_text(mountinfo)
    return folder


def prune(tmp_path: Path, place: HookPlace) -> list[Path]:
    return prune_copies(place, NOW, tmp_path / "proc")


def test_the_newest_stay_and_the_others_go(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5, 6])
    process(tmp_path, 1)
    assert sorted(prune(tmp_path, place)) == copies[:2]
    assert sorted(place.store.iterdir()) == copies[2:]
    assert len(copies[2:]) == KEEP_NEWEST


def test_what_is_younger_than_a_day_stays(tmp_path: Path) -> None:
    place, _ = store(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert prune(tmp_path, place) == []


def test_what_new_containers_are_led_to_stays_however_old(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5])
    place.target.unlink()
    place.target.symlink_to(copies[0])
    assert prune(tmp_path, place) == []


def test_what_a_process_maps_stays_whatever_its_path_is_there(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5, 6])
    inode = copies[0].stat().st_ino
    line = f"7f00-7f01 r-xp 00000000 00:2a {inode}    /usr/local/vgpu/libvgpu.so (deleted)\n"
    process(tmp_path, 4711, maps="5500-5600 rw-p 00000000 00:00 0 [heap]\n" + line)
    assert prune(tmp_path, place) == [copies[1]]


def test_what_a_container_has_mounted_stays(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5, 6])
    mount = f"611 600 8:1 /var/lib/poolmgr/hook/{copies[1].name} /usr/local/vgpu/libvgpu.so ro - ext4 /dev/sda1 ro\n"
    process(tmp_path, 4711, mountinfo=mount)
    assert prune(tmp_path, place) == [copies[0]]


@pytest.mark.parametrize("file", ["maps", "mountinfo"])
def test_where_a_process_cannot_be_read_everything_stays(tmp_path: Path, file: str) -> None:
    place, _ = store(tmp_path, [2, 3, 4, 5, 6])
    unreadable = process(tmp_path, 4711) / file
    unreadable.unlink()
    unreadable.mkdir()
    assert prune(tmp_path, place) == []


def test_a_process_that_ends_meanwhile_does_not_count(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5])
    (process(tmp_path, 4711) / "maps").unlink()
    assert prune(tmp_path, place) == [copies[0]]


def test_a_real_process_holds_its_copy_until_it_ends(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5])
    program = "import mmap, sys; m = mmap.mmap(open(sys.argv[1]).fileno(), 0, prot=mmap.PROT_READ); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(copies[0])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        (tmp_path / "proc" / "1").symlink_to(f"/proc/{running.pid}")
        assert prune(tmp_path, place) == []
        running.communicate(b"\n")
    assert prune(tmp_path, place) == [copies[0]]


class ClockByHand:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return NOW + self.passed

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds


def test_looks_once_an_hour(tmp_path: Path) -> None:
    place, copies = store(tmp_path, [2, 3, 4, 5])
    clock = ClockByHand()
    pruner = CopyPruner(place, clock, tmp_path / "proc")
    pruner.prune()
    assert not copies[0].exists()
    copies[0].write_bytes(b"\x7fELF")
    os.utime(copies[0], (NOW - 9 * DAY, NOW - 9 * DAY))
    clock.passed = EVERY_SECONDS - 1
    pruner.prune()
    assert copies[0].exists()
    clock.passed = EVERY_SECONDS
    pruner.prune()
    assert not copies[0].exists()
