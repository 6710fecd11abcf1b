"""Takes old copies of libhook out of the agent's store.

A copy stays while any process of the node maps it, while it is mounted in any container, while new containers are
led to it, and for a day; the newest stay anyway, for the way back. Where that cannot be seen for certain, every
copy stays.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from poolmgr.agent.hook_install import HookPlace
from poolmgr.kit.clock import Clock

log = structlog.get_logger()
KEEP_NEWEST = 3
KEEP_SECONDS = 86_400.0
EVERY_SECONDS = 3_600.0


def _texts(proc: Path, name: str) -> Iterator[str]:
    """That file of every process. Processes that end meanwhile are left out; anything else that cannot be read
    raises OSError."""
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            yield (process / name).read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
            continue


def _mapped_inodes(proc: Path) -> frozenset[int]:
    """Inodes of all files that any process has mapped. Without device numbers: on btrfs and overlays `maps` shows
    others than `stat`, and a copy kept for nothing harms nobody."""
    found: set[int] = set()
    for text in _texts(proc, "maps"):
        for line in text.splitlines():
            fields = line.split(maxsplit=5)  # address, rights, offset, device, inode, path
            if len(fields) > 4 and fields[4].isdigit():
                found.add(int(fields[4]))
    return frozenset(found)


def _mounted(proc: Path, copies: list[Path]) -> frozenset[Path]:
    """Copies that are mounted on their own, as containers mount them, in any mount namespace."""
    roots: set[str] = set()
    for text in _texts(proc, "mountinfo"):
        for line in text.splitlines():
            fields = line.split(" ", maxsplit=5)  # id, parent, device, root, mount point, rest
            if len(fields) > 4:
                roots.add(os.path.basename(fields[3]))  # noqa: PTH119 - a path of another file system
    return frozenset(copy for copy in copies if copy.name in roots)


def prune_copies(place: HookPlace, now: float, proc: Path = Path("/proc")) -> list[Path]:
    """Removes what nobody uses; returns what it removed. `proc` must show every process of the node; `now` is
    Unix seconds."""
    try:
        copies = sorted(place.store.glob("libvgpu-*.so"), key=lambda copy: copy.stat().st_mtime, reverse=True)
        led_to = place.target.readlink() if place.target.is_symlink() else None
        old = [
            copy
            for copy in copies[KEEP_NEWEST:]
            if copy != led_to and now - copy.stat().st_mtime > KEEP_SECONDS
        ]
        if not old:
            return []
        mapped, mounted = _mapped_inodes(proc), _mounted(proc, old)
        unused = [copy for copy in old if copy.stat().st_ino not in mapped and copy not in mounted]
        for copy in unused:
            copy.unlink(missing_ok=True)
    except OSError as error:
        log.warning("hook_copies_kept", reason=str(error))
        return []
    return unused


class CopyPruner:
    """Called every pass; looks once an hour."""

    def __init__(self, place: HookPlace, clock: Clock, proc: Path) -> None:
        self._place = place
        self._clock = clock
        self._proc = proc
        self._next = clock.monotonic()

    def prune(self) -> None:
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + EVERY_SECONDS
        for copy in prune_copies(self._place, self._clock.now(), self._proc):
            log.info("hook_copy_removed", path=str(copy))
