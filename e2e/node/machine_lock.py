"""One guest at a time on a machine: two emulated nodes on few cores only make both time out."""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """Who runs the machine's guest, and how its command server is reached."""

    pid: int
    folder: str
    port: int
    token: str

    def __str__(self) -> str:
        return f"pid {self.pid}, console in {self.folder}"


class MachineLock:
    """An flock in the temporary folder, which the kernel frees when its holder dies, as QEMU dies with it."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(tempfile.gettempdir(), f"poolmgr-e2e-node-{os.getuid()}.lock")
        self._descriptor: int | None = None

    def acquire(self, holder: Holder, timeout_seconds: float, say: Callable[[str], None]) -> None:
        """Waits for other guests of this user to end; nothing happens when it is held already.

        Raises TimeoutError that names the holder.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + timeout_seconds
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                other = _read(descriptor) or "unknown"
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise TimeoutError(
                        f"another emulated node still runs after {timeout_seconds:.0f} s ({other}); end it, or wait"
                    ) from None
                if not said:
                    say(f"waiting for another emulated node to end ({other})")
                    said = True
                time.sleep(1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> Holder | None:
        """Who holds the lock now; None when nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(descriptor)
        else:
            return None
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> Holder | None:
    """The holder as written; None while it is still writing."""
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None
