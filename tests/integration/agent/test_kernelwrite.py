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

from poolmgr.agent.kernelwrite import NAME, ChildWriter, process_start
from poolmgr.domain.identifiers import PciAddress

GPU = PciAddress("0000:00:04.0")
OTHER = PciAddress("10000:e1:00.1")


def content(path: Path) -> str:
    return path.read_text()


def touch(path: Path) -> None:
    path.touch()


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "writes"


@pytest.fixture
def writer(notes: Path) -> ChildWriter:
    return ChildWriter(notes)


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A pipe that nobody reads stands for the driver that does not let go: opening it for writing hangs."""
    path = tmp_path / "unbind"
    os.mkfifo(path)
    return path


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A file that takes what is written."""
    path = tmp_path / "driver_override"
    path.touch()
    return path


def children() -> set[int]:
    """Of this process, those that run."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def eventually(question: object, *, seconds: float = 60) -> None:
    """Wait until `question()` is true: a child names itself once it has started, seconds on an emulated CPU."""
    give_up_at = time.monotonic() + seconds
    while not question():  # type: ignore[operator]
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.05)


async def test_the_text_arrives_with_a_newline(writer: ChildWriter, taken: Path) -> None:
    assert (await writer.write(GPU, taken, "0000:00:04.0", 10.0)).ok
    assert content(taken) == "0000:00:04.0\n"


async def test_an_empty_text_is_a_bare_newline(writer: ChildWriter, taken: Path) -> None:
    assert (await writer.write(GPU, taken, "", 10.0)).ok
    assert content(taken) == "\n"


async def test_the_kernels_errno_comes_back_and_the_next_write_is_taken(
    writer: ChildWriter, taken: Path, tmp_path: Path
) -> None:
    outcome = await writer.write(GPU, tmp_path / "missing", "x", 10.0)
    assert outcome.error_number == errno.ENOENT
    assert outcome.describe() == "failed with ENOENT (No such file or directory)"
    assert (await writer.write(GPU, taken, "x", 10.0)).ok


async def test_one_child_makes_all_writes_that_return(writer: ChildWriter, taken: Path) -> None:
    before = children()
    for _ in range(5):
        assert (await writer.write(GPU, taken, "x", 10.0)).ok
        assert not writer.in_flight(), "whoever has the answer may look at once"
    assert len(children() - before) == 1


async def test_a_child_is_prepared_once_and_is_no_write_in_flight(writer: ChildWriter) -> None:
    before = children()
    writer.prepare()
    writer.prepare()
    (child,) = children() - before
    await eventually(lambda: Path(f"/proc/{child}/comm").read_text().strip() == NAME)
    assert not writer.in_flight()


@pytest.mark.parametrize("address", [GPU, OTHER], ids=["usual", "five-digit domain"])
async def test_a_write_that_hangs_is_left_behind_and_known_to_a_later_agent(
    writer: ChildWriter, notes: Path, hanging: Path, taken: Path, address: PciAddress
) -> None:
    assert (await writer.write(address, hanging, address, 0.3)).timed_out
    later = ChildWriter(notes)
    assert later.in_flight() == {address}
    assert (await writer.write(GPU, taken, "x", 10.0)).ok, "another child makes the next write"
    (child,) = writer._left_behind
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not later.in_flight()


async def test_a_child_that_returns_after_all_ends(writer: ChildWriter, hanging: Path) -> None:
    assert (await writer.write(GPU, hanging, "x", 0.3)).timed_out
    assert writer.in_flight() == {GPU}
    (child,) = writer._left_behind
    with hanging.open("rb") as reader:
        assert reader.readline() == b"x\n"
    assert child.wait(timeout=60) == 0
    assert not writer.in_flight()


async def test_an_agent_that_was_itself_held_up_past_the_deadline_takes_the_answer(
    writer: ChildWriter, taken: Path
) -> None:
    writer.prepare()
    child = writer._child
    assert child is not None
    deadline = 0.2
    write = asyncio.create_task(writer.write(GPU, taken, "x", deadline))
    await asyncio.sleep(0)  # it is asked
    assert select.select([child.stdout], [], [], 60)[0], "the answer came"
    time.sleep(deadline)  # noqa: ASYNC251 - nothing of the agent runs
    assert (await write).ok
    assert writer._child is child, "and makes the next write"


async def test_a_child_that_was_killed_is_no_success_and_is_replaced(
    writer: ChildWriter, hanging: Path, taken: Path
) -> None:
    before = children()
    write = asyncio.create_task(writer.write(GPU, hanging, "x", 60.0))
    await eventually(writer.in_flight)
    (child,) = children() - before
    os.kill(child, signal.SIGKILL)
    assert (await write).error_number == errno.EINTR
    await eventually(lambda: not writer.in_flight())  # its pipe closes first
    assert (await writer.write(GPU, taken, "x", 10.0)).ok


async def test_what_cannot_be_noted_is_not_written(writer: ChildWriter, notes: Path, taken: Path) -> None:
    touch(notes)
    assert (await writer.write(GPU, taken, "x", 10.0)).error_number == errno.EEXIST
    assert content(taken) == ""
    remove(notes)
    assert (await writer.write(GPU, taken, "x", 10.0)).ok


def test_another_process_with_the_number_of_a_child_is_no_write(notes: Path) -> None:
    """The child ended with a crash of the agent; its number was given out again."""
    notes.mkdir()
    (notes / str(os.getpid())).write_text(f"17 {GPU}\n")
    assert not ChildWriter(notes).in_flight()
    assert not list(notes.iterdir())
    (notes / str(os.getpid())).write_text(f"{process_start(Path('/proc'), os.getpid())} {GPU}\n")
    assert ChildWriter(notes).in_flight() == {GPU}


@pytest.mark.parametrize("note", ["", "\n", "17", "\0\0\0", "\N{SNOWMAN} x"])
def test_a_damaged_note_is_no_write(notes: Path, note: str) -> None:
    notes.mkdir()
    (notes / str(os.getpid())).write_text(note)
    (notes / "77.new").write_text("half")
    assert not ChildWriter(notes).in_flight()


def process(proc: Path, pid: int, name: bytes) -> None:
    """What proc(5) shows of a process that calls itself so."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "comm").write_bytes(name + b"\n")
    (folder / "cmdline").write_bytes(name + b"\0/sys/bus/pci/devices/0000:00:04.0/driver/unbind\0")
    (folder / "stat").write_bytes(b"%d (%s) S 1 " % (pid, name) + b"0 " * 17 + b"4711 0 0\n")


@pytest.mark.parametrize(
    "name", [NAME.encode(), b"poolmgr-write", b"pw0000:00:04.0", b"\xff\xfe\x80", b") D 1 ) 2 3", b""]
)
def test_a_process_of_any_name_neither_makes_a_write_nor_ends_the_agent(
    notes: Path, tmp_path: Path, name: bytes
) -> None:
    proc = tmp_path / "proc"
    process(proc, 10, name)
    notes.mkdir()
    (notes / "10").write_text(f"1234 {GPU}\n")
    assert not ChildWriter(notes, proc).in_flight()
    (notes / "10").write_text(f"4711 {GPU}\n")
    assert ChildWriter(notes, proc).in_flight() == {GPU}, "number and start are what counts"


AGENT = """
import asyncio, sys
from pathlib import Path
from poolmgr.agent.kernelwrite import ChildWriter
writer = ChildWriter(Path(sys.argv[2]))
asyncio.run(writer.write("0000:00:05.0", Path(sys.argv[1]), "x", 60.0))
print(writer._child.pid, flush=True)
sys.stdin.read()
"""


async def test_an_idle_child_ends_with_its_agent(taken: Path, notes: Path) -> None:
    agent = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time that matters
        [sys.executable, "-c", AGENT, str(taken), str(notes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert agent.stdout is not None
    child = int(agent.stdout.readline())
    agent.kill()
    agent.wait()
    await eventually(lambda: not process_start(Path("/proc"), child))
