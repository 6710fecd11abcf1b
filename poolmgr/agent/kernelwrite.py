"""Writing to sysfs files whose write may never return.

Unbinding a driver runs its remove function inside the write: with a user left, NVIDIA's waits for ever
(uninterruptible, beyond SIGKILL) and vfio's until the VM is gone. So such writes happen in a child process that is
given up on, not waited for, once a deadline has passed. A child that has returned makes the next write too: starting
one takes longer than a write.

A later agent on the same boot must see that a write is still in flight. So each child is noted in a folder of the
agent's while it writes: its process id, when that process started, and the function. Names and command lines would
not do: a process of any container can give itself whichever it likes.
"""

import asyncio
import contextlib
import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poolmgr.domain.identifiers import PciAddress
from poolmgr.wire.text import whole

NAME = "poolmgr-writer"
"""Of the child, for who lists processes; it is not recognised by that."""
_WORK = """
import os, sys
def write(path, text):
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text + b'\\n')
    finally:
        os.close(file)
with open('/proc/self/comm', 'w') as comm:
    comm.write(sys.argv[1])
for line in sys.stdin.buffer:
    path, text = line[:-1].split(b'\\0')
    answer = 0
    try:
        write(path, text)
    except OSError as error:
        answer = error.errno
    try:
        os.write(1, b'%d\\n' % answer)
    except BrokenPipeError:
        break
"""


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
    def prepare(self) -> None:
        """Writes are about to come."""
        ...

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        """Write `text` and a newline to `path`; an empty text is a bare newline. One write at a time."""
        ...

    def in_flight(self) -> frozenset[PciAddress]:
        """The functions of all writes, of this or an earlier agent, that have not returned. Raises OSError."""
        ...


class ChildWriter:
    """Writes in a child process, which ends with this one unless the kernel holds it.

    `notes`: a folder that only the agent can write to, kept over its restarts.
    """

    def __init__(self, notes: Path, proc: Path = Path("/proc")) -> None:
        self._notes = notes
        self._proc = proc
        self._child: subprocess.Popen[bytes] | None = None
        self._left_behind: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        """Start a child where there is none; it is ready by the time that the checks before a write are through."""
        self._left_behind = [child for child in self._left_behind if child.poll() is None]
        if self._child is not None and self._child.poll() is None:
            return
        # -I -S: no site packages, no user settings: starts in milliseconds and cannot be led astray.
        # A session of its own, so that a signal to the agent's group does not reach it. Not by asyncio, whose
        # transport would wait for it, or kill it, when the loop ends.
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WORK, NAME],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        self.prepare()
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        try:
            self._note(child.pid, about)
        except OSError as error:  # a later agent would not know of it: nothing is written
            return WriteOutcome(error_number=error.errno or errno.EIO)
        words = (os.fsencode(word) for word in (path, text))
        answer = b""
        self._child = None  # until it has answered
        try:
            os.write(child.stdin.fileno(), b"\0".join(words) + b"\n")
            async with asyncio.timeout(deadline_seconds):
                answer = await _read(child.stdout.fileno())
        except TimeoutError:
            answer = _read_now(child.stdout.fileno())
            if not answer:
                return WriteOutcome(timed_out=True)
        except BrokenPipeError:  # killed since it was started
            return WriteOutcome(error_number=errno.EINTR)
        finally:
            if answer:
                self._strike(child.pid)  # before the answer is told: who has it may look at once
                self._child = child
            else:
                self._leave(child)
        return WriteOutcome(error_number=int(answer)) if answer else WriteOutcome(error_number=errno.EINTR)

    def _leave(self, child: subprocess.Popen[bytes]) -> None:
        """It is reaped when, if ever, the kernel lets it go; it ends then, as nobody reads its answer."""
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        self._left_behind.append(child)

    def in_flight(self) -> frozenset[PciAddress]:
        found: set[PciAddress] = set()
        with contextlib.suppress(FileNotFoundError):  # nothing was ever written
            for note in self._notes.iterdir():
                pid = whole(note.name)
                if not pid:
                    continue
                with contextlib.suppress(FileNotFoundError):  # struck out meanwhile
                    started, _, about = note.read_text(errors="replace").strip().partition(" ")
                    if started and started == process_start(self._proc, pid):
                        found.add(PciAddress(about))
                    else:  # it has ended, and whoever has its number now is another process
                        self._strike(pid)
        return frozenset(found)

    def _note(self, pid: int, about: PciAddress) -> None:
        """Say that the child is about to write. Raises OSError."""
        started = process_start(self._proc, pid)
        if not started:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        self._notes.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._notes / f"{pid}.new"
        beside.write_text(f"{started} {about}\n")
        beside.replace(self._notes / str(pid))

    def _strike(self, pid: int) -> None:
        with contextlib.suppress(OSError):  # gone, or not ours to remove: it is looked at anew each time
            (self._notes / str(pid)).unlink()


def process_start(proc: Path, pid: int) -> str:
    """When a process began, in clock ticks since boot: with its number, that names it. Empty where it has ended; proc(5),
    fields 3 and 22 of stat. The second field, its name, may hold anything."""
    try:
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if len(fields) < 20 or fields[0] in (b"Z", b"X") else fields[19].decode("ascii", "replace")


async def _read(file: int) -> bytes:
    """What is in the pipe once something is; empty at its end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(file, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(file)
    return os.read(file, 16)


def _read_now(file: int) -> bytes:
    """What is in the pipe; empty where nothing is. An agent that was itself held up past the deadline finds the answer
    there: the write has returned, and its GPU needs no reboot."""
    os.set_blocking(file, False)
    try:
        return os.read(file, 16)
    except BlockingIOError:
        return b""
    finally:
        os.set_blocking(file, True)
