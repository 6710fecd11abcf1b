"""The story's log: one line per thing that happened, with who did it and when, readable from top to bottom."""

import contextlib
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

WIDTH = 118


class Narrative:
    """Prints to `out` and into the file `log` at once. Any thread may speak."""

    def __init__(
        self,
        log: Path,
        out: TextIO | None = None,
        uncaptured: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """`uncaptured` suspends the test runner's capture, so that the story is seen while it runs."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("a")
        self._out = out
        self._uncaptured = uncaptured
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.path = log

    def title(self, text: str, versions: Mapping[str, str]) -> None:
        """The head of the log: what this is, and the version of every real part."""
        self._print(["", "═" * WIDTH, text, *_columns(versions), "═" * WIDTH])

    def chapter(self, number: int, text: str) -> None:
        self._print(["", f"── {number}. {text} " + "─" * max(3, WIDTH - len(text) - 7)])

    def say(self, who: str, text: str) -> None:
        """One line by `who` (manager, agent, kubelet, user, sysfs, …); long text is wrapped under itself."""
        margin = f"{time.monotonic() - self._started:7.1f} s  {who:<10} "
        lines = textwrap.wrap(text, WIDTH - len(margin), break_long_words=False) or [""]
        self._print([margin + lines[0], *(" " * len(margin) + line for line in lines[1:])])

    def quote(self, who: str, text: str) -> None:
        """What a command printed, line by line, as the user saw it."""
        self.say(who, "")
        self._print(["              │ " + line for line in text.rstrip().splitlines()])

    @contextlib.contextmanager
    def timed(self, who: str, what: str) -> Iterator[None]:
        """Say how long the block took when it is over; nothing is said when it fails."""
        started = time.monotonic()
        yield
        self.say(who, f"{what} ({time.monotonic() - started:.1f} s)")

    def close(self) -> None:
        self._log.close()

    def _print(self, lines: list[str]) -> None:
        text = "\n".join(lines) + "\n"
        with self._lock:
            self._log.write(text)
            self._log.flush()
            with self._uncaptured():
                out = self._out or sys.stdout
                out.write(text)
                out.flush()


def _columns(versions: Mapping[str, str]) -> list[str]:
    line = "   ".join(f"{name} {version}" for name, version in versions.items())
    return textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)
