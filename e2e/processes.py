"""Child processes that log into a file, are waited for by probing, and never outlive the tests.

The kernel kills each child when the thread that started it ends (PR_SET_PDEATHSIG). One thread that lives
as long as this process starts all of them, so a child lives until it is stopped or this process is gone,
even by `kill -9`.
"""

import ctypes
import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""include/uapi/linux/prctl.h"""

_LIBC = ctypes.CDLL(None, use_errno=True)
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-starter")
_PORTS_TAKEN: dict[int, int] = {}
"""Port → descriptor of its lock, held as long as this process lives."""
PATIENCE_SECONDS = 300.0
"""How long to wait for what has to come: beside other work it takes ten times as long as alone. Only a test that
fails waits so long."""


class ProcessFailed(Exception):
    """A process ended or did not become ready; the message holds the end of its log."""


def free_port() -> int:
    """A free loopback TCP port, given to nobody else: neither to this process again nor to another test process
    of this user while this one lives. Below the ephemeral range, so that a server that is stopped for a while does
    not lose its port to somebody's outgoing connection."""
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        if port in _PORTS_TAKEN or (lock := _lock_port(port)) is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                os.close(lock)
                continue
        _PORTS_TAKEN[port] = lock
        return port
    raise ProcessFailed("no free TCP port between 20000 and 32000 on 127.0.0.1")


def _lock_port(port: int) -> int | None:
    """The descriptor of this port's lock, which the kernel frees with this process; None when another has it."""
    folder = Path(tempfile.gettempdir(), f"poolmgr-ports-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def wait_until(
    what: str,
    probe: Callable[[], object],
    *,
    timeout_seconds: float = PATIENCE_SECONDS,
    interval_seconds: float = 0.1,
) -> object:
    """Call `probe` until it answers something true and return that; an exception counts as "not yet".

    Raises TimeoutError that names `what` and the last answer or exception.
    """
    deadline = time.monotonic() + timeout_seconds
    last: object = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except ProcessFailed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong before the deadline means "not yet"
            last = error
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {timeout_seconds:g} s; last seen: {last!r}")
        time.sleep(interval_seconds)


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs; one that has ended and was not waited for does not count."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Process:
    """One program under one name: start, stop, kill, start again. Output is appended to `log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.log = log
        self.environment = dict(os.environ) if environment is None else dict(environment)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running child; ProcessFailed when it is not running."""
        if self._child is None or not self.running:
            raise ProcessFailed(f"{self.name} is not running\n{self.tail()}")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child is there; a child that has ended is reaped."""
        return self._child is not None and self._child.poll() is None

    def start(
        self, ready: Callable[[], object] | None = None, *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> "Process":
        """Start it if it is not running and wait until `ready` answers something true."""
        if not self.running:
            self._child = _STARTER.submit(self._spawn).result()
        if ready is None:
            return self

        def alive_and_ready() -> object:
            if not self.running:
                raise ProcessFailed(
                    f"{self.name} ended with {self.returncode} before it was ready\n{self.tail()}"
                )
            return ready()

        try:
            wait_until(f"{self.name} to be ready", alive_and_ready, timeout_seconds=timeout_seconds)
        except TimeoutError as late:
            raise ProcessFailed(f"{late}\n{self.tail()}") from late
        return self

    @property
    def returncode(self) -> int | None:
        """Exit status, minus the signal number for a killed child, None while it runs or before the first
        start."""
        return None if self._child is None else self._child.poll()

    def stop(self, *, grace_seconds: float = 10) -> None:
        """SIGTERM to its process group, then SIGKILL when the grace is over. Nothing happens if it is not
        running."""
        self._signal(signal.SIGTERM)
        if self._child is not None:
            try:
                self._child.wait(timeout=grace_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
            self._signal_group(signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to its process group, as a crash would look from outside."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def tail(self, characters: int = 3000) -> str:
        """The end of its log, with the log's path."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.log}\n{text[-characters:]}"

    def _signal(self, number: int) -> None:
        if self._child is not None and self.running:
            self._signal_group(number)

    def _signal_group(self, number: int) -> None:
        if self._child is not None:
            try:
                os.killpg(self._child.pid, number)
            except ProcessLookupError:
                return

    def _spawn(self) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent was gone before the call
                os._exit(1)

        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - two system calls, no locks taken
            )
