"""One guest at a time on a machine: two emulated nodes on few cores only make both time out."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


class MachineLock:
    """An flock in the temporary folder, which the kernel frees when its holder dies, as QEMU dies with it."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(tempfile.gettempdir(), f"poolmgr-e2e-node-{os.getuid()}.lock")
        self._descriptor: int | None = None

    def acquire(self, timeout_seconds: float, say: Callable[[str], None]) -> None:
        """Waits for other guests of this user to end; nothing happens when it is held already. Raises
        TimeoutError naming the holder."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout_seconds
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise TimeoutError(
                        f"another emulated node has run for over {timeout_seconds:.0f} s ({holder}); "
                        f"end it, or wait for it"
                    ) from None
                if not said:
                    say(f"waiting for another emulated node to end ({holder})")
                    said = True
                time.sleep(1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}, in {Path.cwd()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
