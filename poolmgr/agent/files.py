"""The node's files, sysfs and proc, as the agent asks about them. The one door to them, so that a recording of a node can
stand behind it (`recording`).
"""

import os
import stat
from typing import Protocol

from poolmgr.wire.text import whole

PAGE_BYTES = 4096
"""The most that the kernel gives of an attribute in sysfs."""

DeviceNumber = tuple[int, int]
"""Major and minor."""


class NodeFiles(Protocol):
    """Every question raises OSError as the kernel does: absent, refused and unreadable stay three things."""

    def read(self, path: str, at_most: int = PAGE_BYTES) -> bytes:
        """The first bytes of a file."""
        ...

    def entries(self, folder: str) -> list[str]:
        """The names in a folder, in no order."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Those of them that are folders themselves; links are none."""
        ...

    def target(self, link: str) -> str:
        """Where a link leads to, as it is written there."""
        ...

    def number(self, path: str) -> DeviceNumber | None:
        """Of the character device that a path leads to; None where it leads to something else."""
        ...


class KernelFiles:
    """The running kernel's own."""

    def read(self, path: str, at_most: int = PAGE_BYTES) -> bytes:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = b""
            while len(found) < at_most and (more := os.read(file, at_most - len(found))):
                found += more
            return found
        finally:
            os.close(file)

    def entries(self, folder: str) -> list[str]:
        return os.listdir(folder)

    def folders(self, folder: str) -> list[str]:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def target(self, link: str) -> str:
        return os.readlink(link)

    def number(self, path: str) -> DeviceNumber | None:
        info = os.stat(path)
        if not stat.S_ISCHR(info.st_mode):
            return None
        return os.major(info.st_rdev), os.minor(info.st_rdev)


KERNEL_FILES = KernelFiles()


def printable(text: str, keep: str = "\n") -> str:
    """As it can be shown to anybody: processes, files and whoever wrote a recording name things as they like."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def parse_number(text: str) -> int | None:
    """A number as the kernel writes them; None for all else."""
    number = whole(text, -1)
    return None if number < 0 else number
