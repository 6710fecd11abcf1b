"""Writing to sysfs files whose write may never return.

Unbinding a driver runs its remove function inside the write: with a user left, NVIDIA's waits for ever
(uninterruptible, beyond SIGKILL) and vfio's until the VM is gone. So each such write happens in a child
process that is given up on, not waited for, once its deadline has passed. The child goes by a name of its own and
its command line holds the file, so that a later agent on the same boot can see that the write is still in
flight.
"""

import contextlib
import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poolmgr.kit.clock import Clock

MARK = "poolmgr-write"
"""The child's name; Linux keeps 15 characters of it."""
_WRITE = (
    "import os, sys\n"
    "open('/proc/self/comm', 'w').write(sys.argv[1])\n"
    "try:\n"
    "    os.write(os.open(sys.argv[2], os.O_WRONLY), sys.argv[3].encode() + b'\\n')\n"
    "except OSError as error:\n"
    "    sys.exit(error.errno)\n"
)


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """How a write ended. `error_number` 0 means that the kernel took it."""

    timed_out: bool = False
    error_number: int = 0

    @property
    def ok(self) -> bool:
        return not self.timed_out and self.error_number == 0

    def describe(self) -> str:
        if self.timed_out:
            return "did not return in time"
        code = errno.errorcode.get(self.error_number, str(self.error_number))
        return f"failed with {code} ({os.strerror(self.error_number)})"


class KernelWriter(Protocol):
    async def write(self, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        """Write `text` and a newline to `path`; an empty text is a bare newline."""
        ...

    def in_flight(self) -> frozenset[str]:
        """Paths and texts of all writes, of this or an earlier agent, that have not returned."""
        ...


class ChildWriter:
    """Writes in a disposable child process."""

    def __init__(self, clock: Clock, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._proc = proc
        self._left_behind: list[subprocess.Popen[bytes]] = []

    async def write(self, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        self._left_behind = [child for child in self._left_behind if child.poll() is None]
        # -I -S: no site packages, no user settings: starts in milliseconds and cannot be led astray.
        # A session of its own, so that a signal to the agent's group does not reach it. Polled, because
        # asyncio's own subprocess transport would wait for it, or kill it, when the loop ends.
        child = subprocess.Popen(  # noqa: ASYNC220 - starting takes milliseconds, and see above
            [sys.executable, "-I", "-S", "-c", _WRITE, MARK, str(path), text], start_new_session=True
        )
        give_up_at = self._clock.monotonic() + deadline_seconds
        while (code := child.poll()) is None:
            if self._clock.monotonic() >= give_up_at:
                self._left_behind.append(child)  # reaped when, if ever, the kernel lets it go
                return WriteOutcome(timed_out=True)
            await self._clock.sleep(0.02)
        return WriteOutcome(error_number=code if code >= 0 else errno.EINTR)

    def in_flight(self) -> frozenset[str]:
        found: set[str] = set()
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    # By name first: the command line of a process that hangs in a page fault hangs its reader.
                    if (entry / "comm").read_text().strip() == MARK:
                        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                        found.update(words[words.index(MARK) + 1 :])
        return frozenset(found)
