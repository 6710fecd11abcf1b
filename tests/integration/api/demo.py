"""`poolmgr demo` as a process of its own on a free port: what `make run` starts."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from e2e.processes import PATIENCE_SECONDS

ADDRESS = re.compile(r"Dashboard\s+(http://127\.0\.0\.1:\d+)/")


class Demo:
    """Started when made; `address` once it has printed one. `stop` is a Ctrl-C."""

    def __init__(
        self, folder: Path, *arguments: str, starts_within_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.output: list[str] = []
        self._printed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "poolmgr.cli.main", "demo", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = self._wait_for_address(starts_within_seconds)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self.output.append(line)
                self._printed.notify_all()

    def _wait_for_address(self, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        with self._printed:
            while True:
                found = ADDRESS.search("".join(self.output))
                if found:
                    return found[1]
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    self.process.kill()
                    raise AssertionError("no address was printed:\n" + "".join(self.output))
                self._printed.wait(min(left, 0.5))

    def stop(self) -> int:
        """Ctrl-C; answers the exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(timeout=PATIENCE_SECONDS)
        finally:
            self.process.kill()
        self._reader.join()
        return status
