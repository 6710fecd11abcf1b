"""Writes in a real child process: taken, refused, and hanging."""

import asyncio
import errno
import os
import signal
import time
from pathlib import Path

from poolmgr.agent.kernelwrite import ChildWriter
from poolmgr.kit.clock import SystemClock


async def test_the_text_arrives_with_a_newline(tmp_path: Path) -> None:
    target = tmp_path / "unbind"
    target.touch()
    outcome = await ChildWriter(SystemClock()).write(target, "0000:00:04.0", 10.0)
    assert outcome.ok
    assert target.read_text() == "0000:00:04.0\n"


async def test_the_kernels_errno_comes_back(tmp_path: Path) -> None:
    outcome = await ChildWriter(SystemClock()).write(tmp_path / "missing", "x", 10.0)
    assert outcome.error_number == errno.ENOENT
    assert outcome.describe() == "failed with ENOENT (No such file or directory)"


async def test_a_write_that_hangs_is_left_behind_and_known_to_a_later_agent(tmp_path: Path) -> None:
    """A pipe that nobody reads stands for the driver that does not let go: opening it for writing hangs."""
    hanging = tmp_path / "0000:00:04.0-unbind"
    os.mkfifo(hanging)
    writer = ChildWriter(SystemClock())
    started = asyncio.get_running_loop().time()
    outcome = await writer.write(hanging, "0000:00:04.0", 0.3)
    assert outcome.timed_out
    assert asyncio.get_running_loop().time() - started < 5.0
    later = ChildWriter(SystemClock())
    give_up_at = (
        time.monotonic() + 60
    )  # the child names itself once it has started: seconds on an emulated CPU
    while not later.in_flight() and time.monotonic() < give_up_at:
        time.sleep(0.05)  # noqa: ASYNC251 - nothing else runs here
    assert {str(hanging), "0000:00:04.0"} <= later.in_flight()
    (child,) = writer._left_behind
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert str(hanging) not in later.in_flight()
