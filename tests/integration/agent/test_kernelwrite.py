"""Writes in a real child process: taken, refused, and hanging."""

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolmgr.agent.kernelwrite import FORMER_MARK, IDLE, ChildWriter
from poolmgr.domain.identifiers import PciAddress

# Of this run alone: writers see the writes of all processes of the machine.
GPU = PciAddress(f"{os.getpid() & 0xFFFF:04x}:00:04.0")
OTHER = PciAddress(f"1{os.getpid() & 0xFFFF:04x}:e1:00.1")


def children() -> set[int]:
    """Of this process, those that run."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def eventually(question: object, *, seconds: float = 60) -> None:
    """Wait until `question()` is true: a child names itself once it has started, seconds on an emulated CPU."""
    give_up_at = time.monotonic() + seconds
    while not question():  # type: ignore[operator]
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.05)


async def test_the_text_arrives_with_a_newline(tmp_path: Path) -> None:
    target = tmp_path / "unbind"
    target.touch()
    outcome = await ChildWriter().write(GPU, target, "0000:00:04.0", 10.0)
    assert outcome.ok
    assert target.read_text() == "0000:00:04.0\n"


async def test_an_empty_text_is_a_bare_newline(tmp_path: Path) -> None:
    target = tmp_path / "driver_override"
    target.touch()
    assert (await ChildWriter().write(GPU, target, "", 10.0)).ok
    assert target.read_text() == "\n"


async def test_the_kernels_errno_comes_back_and_the_next_write_is_taken(tmp_path: Path) -> None:
    writer, target = ChildWriter(), tmp_path / "unbind"
    outcome = await writer.write(GPU, tmp_path / "missing", "x", 10.0)
    assert outcome.error_number == errno.ENOENT
    assert outcome.describe() == "failed with ENOENT (No such file or directory)"
    target.touch()
    assert (await writer.write(GPU, target, "x", 10.0)).ok


async def test_one_child_makes_all_writes_that_return(tmp_path: Path) -> None:
    writer, target = ChildWriter(), tmp_path / "unbind"
    target.touch()
    before = children()
    for _ in range(5):
        assert (await writer.write(GPU, target, "x", 10.0)).ok
        assert GPU not in writer.in_flight(), "whoever has the answer may look at once"
    assert len(children() - before) == 1


async def test_a_child_is_prepared_once_and_is_no_write_in_flight() -> None:
    writer, before = ChildWriter(), children()
    writer.prepare()
    writer.prepare()
    (child,) = children() - before
    await eventually(lambda: Path(f"/proc/{child}/comm").read_text().strip() == IDLE)
    assert GPU not in writer.in_flight()


@pytest.mark.parametrize("address", [GPU, OTHER], ids=["usual", "five-digit domain"])
async def test_a_write_that_hangs_is_left_behind_and_known_to_a_later_agent(
    tmp_path: Path, address: PciAddress
) -> None:
    """A pipe that nobody reads stands for the driver that does not let go: opening it for writing hangs."""
    hanging, target = tmp_path / "unbind", tmp_path / "driver_override"
    os.mkfifo(hanging)
    target.touch()
    writer = ChildWriter()
    started = asyncio.get_running_loop().time()
    outcome = await writer.write(address, hanging, address, 0.3)
    assert outcome.timed_out
    assert asyncio.get_running_loop().time() - started < 5.0
    later = ChildWriter()
    await eventually(lambda: address in later.in_flight())
    assert (await writer.write(OTHER, target, "x", 10.0)).ok, "another child makes the next write"
    (child,) = writer._left_behind
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert address not in later.in_flight()


async def test_a_child_that_returns_after_all_ends(tmp_path: Path) -> None:
    hanging = tmp_path / "unbind"
    os.mkfifo(hanging)
    writer = ChildWriter()
    assert (await writer.write(GPU, hanging, "x", 0.3)).timed_out
    await eventually(lambda: GPU in writer.in_flight())
    (child,) = writer._left_behind
    with hanging.open("rb") as reader:
        assert reader.readline() == b"x\n"
    assert child.wait(timeout=60) == 0
    assert GPU not in writer.in_flight()


async def test_an_agent_that_was_itself_held_up_past_the_deadline_takes_the_answer(tmp_path: Path) -> None:
    target = tmp_path / "unbind"
    target.touch()
    writer = ChildWriter()
    writer.prepare()
    child = writer._child
    assert child is not None
    deadline = 0.2
    write = asyncio.create_task(writer.write(GPU, target, "x", deadline))
    await asyncio.sleep(0)  # it is asked
    assert select.select([child.stdout], [], [], 60)[0], "the answer came"
    time.sleep(deadline)  # noqa: ASYNC251 - nothing of the agent runs
    assert (await write).ok
    assert writer._child is child, "and makes the next write"


async def test_a_child_that_was_killed_is_no_success_and_is_replaced(tmp_path: Path) -> None:
    hanging, target = tmp_path / "unbind", tmp_path / "driver_override"
    os.mkfifo(hanging)
    target.touch()
    writer, before = ChildWriter(), children()
    write = asyncio.create_task(writer.write(GPU, hanging, "x", 60.0))
    await eventually(lambda: GPU in writer.in_flight())
    (child,) = children() - before
    os.kill(child, signal.SIGKILL)
    assert (await write).error_number == errno.EINTR
    assert (await writer.write(GPU, target, "x", 10.0)).ok


AGENT = """
import asyncio, sys
from pathlib import Path
from poolmgr.agent.kernelwrite import ChildWriter
writer = ChildWriter()
asyncio.run(writer.write("0000:00:05.0", Path(sys.argv[1]), "x", 60.0))
print(writer._child.pid, flush=True)
sys.stdin.read()
"""


async def test_an_idle_child_ends_with_its_agent(tmp_path: Path) -> None:
    target = tmp_path / "driver_override"
    target.touch()
    agent = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time that matters
        [sys.executable, "-c", AGENT, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert agent.stdout is not None
    child = int(agent.stdout.readline())
    agent.kill()
    agent.wait()
    await eventually(lambda: not Path(f"/proc/{child}").exists() or " Z " in _stat(child))


async def test_a_child_of_an_earlier_release_is_known_too() -> None:
    name = f"open('/proc/self/comm', 'w').write('{FORMER_MARK}'); import time; time.sleep(1000)"
    arguments = [FORMER_MARK, f"/sys/bus/pci/devices/{GPU}/driver/unbind", str(GPU)]
    child = subprocess.Popen([sys.executable, "-c", name, *arguments])  # noqa: ASYNC220
    try:
        await eventually(lambda: GPU in ChildWriter().in_flight())
    finally:
        child.kill()
        child.wait()


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return " Z "
