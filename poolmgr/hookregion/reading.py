"""The bytes of a region, from a folder in which a tenant may have put anything under its name."""

import errno
import os
import stat
from pathlib import Path

from poolmgr.hookregion.layout import HAMI_BYTES

LONGEST = 2 * HAMI_BYTES
"""What the hook keeps behind HAMi's part is a page."""


def read_region(path: Path) -> bytes:
    """At most LONGEST bytes of a regular file. Raises OSError for a link, a FIFO, a device; it waits for nothing."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        found = b""
        while len(found) < LONGEST and (more := os.read(descriptor, LONGEST - len(found))):
            found += more
        return found
    finally:
        os.close(descriptor)
