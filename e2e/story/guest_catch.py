"""Runs in the node, by a bare interpreter: SIGKILLs the agent in the moment in which a GPU has no driver.

Usage: guest_catch.py PCI_ADDRESS. Prints `armed`, then what the agent left behind. A shell is too slow for it: the
moment lasts some tens of milliseconds.
"""

import os
import signal
import sys
import time
from pathlib import Path

MARK = b"poolmgr.cli.main\0agent"


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


def catch(device: Path) -> str:
    override, driver = device / "driver_override", device / "driver"
    print("armed", flush=True)
    before = override.read_text()
    while override.read_text() == before:  # written first; from then on it is a matter of milliseconds
        time.sleep(0.005)
    agent = agent_processes()
    while os.path.lexists(driver):
        pass
    for pid in agent:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for pid in agent_processes():  # a child that was made meanwhile
        os.kill(pid, signal.SIGKILL)
    return driver.readlink().name if driver.exists() else "no driver"


if __name__ == "__main__":
    print(f"killed: {catch(Path('/sys/bus/pci/devices') / sys.argv[1])}", flush=True)
