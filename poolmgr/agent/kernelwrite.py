"""Writing to sysfs files whose write may never return.

Unbinding a driver runs its remove function inside the write: with a user left, NVIDIA's waits for ever
(uninterruptible, beyond SIGKILL) and vfio's until the VM is gone. So such writes happen in a child process that is
given up on, not waited for, once a deadline has passed. A child that has returned makes the next write too: starting
one takes longer than a write. While it writes, it goes by a name that holds the function's address, so that a later
agent on the same boot can see that the write is still in flight.
"""

import asyncio
import contextlib
import errno
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poolmgr.domain.identifiers import PciAddress

MARK = "pw"
"""Before the address in a writing child's name. Linux keeps 15 characters of it: room for a five-digit PCI domain."""
IDLE = "poolmgr-writer"
FORMER_MARK = "poolmgr-write"
"""Name of the children of earlier agents, one for each write; their command line holds file and text."""
_WRITING = re.compile(MARK + r"([0-9a-f]{4,5}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_WORK = """
import os, sys
comm = os.open('/proc/self/comm', os.O_WRONLY)
def name_process(name):
    os.write(comm, name)
def write(path, text):
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text + b'\\n')
    finally:
        os.close(file)
mark, idle = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2])
name_process(idle)
for line in sys.stdin.buffer:
    about, path, text = line[:-1].split(b'\\0')
    answer = 0
    try:
        name_process(mark + about)
        write(path, text)
    except OSError as error:
        answer = error.errno
    name_process(idle)
    try:
        os.write(1, b'%d\\n' % answer)
    except BrokenPipeError:
        break
"""
"""Without the name nothing is written. The name goes before the answer: who has it may look at once."""


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

    def in_flight(self) -> frozenset[str]:
        """Words that name the functions of all writes, of this or an earlier agent, that have not returned."""
        ...


class ChildWriter:
    """Writes in a child process, which ends with this one unless the kernel holds it."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
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
            [sys.executable, "-I", "-S", "-c", _WORK, MARK, IDLE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        self.prepare()
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        words = (os.fsencode(word) for word in (about, path, text))
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

    def in_flight(self) -> frozenset[str]:
        found: set[str] = set()
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    name = (entry / "comm").read_text().strip()
                    if writing := _WRITING.fullmatch(name):
                        found.add(writing[1])
                    elif name == FORMER_MARK:
                        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                        found.update(words[words.index(FORMER_MARK) + 1 :])
        return frozenset(found)


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
