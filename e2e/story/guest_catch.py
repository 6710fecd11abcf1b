"""Runs in the node, by a bare interpreter: SIGKILLs the agent in the moment in which a GPU has no driver.

Usage: guest_catch.py PCI_ADDRESS. Prints `armed`, then what the agent left behind. A shell is too slow for it: the
moment lasts some tens of milliseconds, so that nobody else may have the processor meanwhile either.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

MARK = b"/poolmgr\0agent\0run"


def agent_processes() -> list[int]:
    """The agent and the children it writes to the kernel with; their command line is the same."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def driver_of(device: Path) -> str:
    try:
        return os.readlink(f"{device}/driver").rpartition("/")[2]  # noqa: PTH115
    except FileNotFoundError:
        return ""


def take_precedence() -> None:
    """Over all that is not of the kernel's own, and without the pause of 50 ms a second that it usually demands."""
    Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def catch(device: Path) -> str:
    take_precedence()
    override, bound = device / "driver_override", driver_of(device)
    agent = agent_processes()  # before: to look through /proc takes longer than the moment lasts
    print("armed", flush=True)
    before = override.read_text()
    while override.read_text() == before:  # written first; from then on it is a matter of milliseconds
        time.sleep(0.001)
    while (driver := driver_of(device)) == bound:
        pass
    if driver:
        return f"nothing, too late: the GPU is on {driver}"
    for pid in agent:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in agent_processes():  # a child that writes
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return driver_of(device) or "no driver"


if __name__ == "__main__":
    print(f"killed: {catch(Path('/sys/bus/pci/devices') / sys.argv[1])}", flush=True)
