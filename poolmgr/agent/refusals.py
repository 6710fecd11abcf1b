"""What is there on a node and cannot be read: it is not the same as what is not there."""

import errno
from collections.abc import Callable
from typing import TypeVar

from poolmgr.agent.files import PAGE_BYTES, DeviceNumber, NodeFiles

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL)
"""The file is not there, or has nothing to say: the kernel answers EINVAL for an attribute that a device does not support."""
Answer = TypeVar("Answer")


class NotingFiles:
    """Asks `files`, and keeps which path was the first that is there and could not be read. Implements `NodeFiles`."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files
        self.refused = ""
        """Empty while there is none."""

    def read(self, path: str, at_most: int = PAGE_BYTES) -> bytes:
        return self._noted(path, lambda: self._files.read(path, at_most))

    def entries(self, folder: str) -> list[str]:
        return self._noted(folder, lambda: self._files.entries(folder))

    def folders(self, folder: str) -> list[str]:
        return self._noted(folder, lambda: self._files.folders(folder))

    def target(self, link: str) -> str:
        return self._noted(link, lambda: self._files.target(link))

    def number(self, path: str) -> DeviceNumber | None:
        return self._noted(path, lambda: self._files.number(path))

    def _noted(self, path: str, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except OSError as error:
            if error.errno not in ABSENT:
                self.refused = self.refused or path
            raise
