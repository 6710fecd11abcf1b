"""Child processes die with the tests, and a part that fails to start says why."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.processes import Process, ProcessFailed, is_alive, wait_until

_PARENT = """
import pathlib, sys, threading, time
from e2e.processes import Process
def start():
    child = Process("sleeper", ["sleep", "600"], pathlib.Path(sys.argv[1]) / "log").start()
    print(child.pid, flush=True)
starter = threading.Thread(target=start)
starter.start()
starter.join()
time.sleep(600)
"""


def test_kill_minus_nine_of_the_parent_leaves_no_child(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)  # the thread that asked for the child has ended by now; the child must not care
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until("the child to be gone", lambda: not is_alive(child))


def test_a_process_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    process = Process("broken", ["sh", "-c", "echo no such flag >&2; exit 3"], tmp_path / "broken.log")
    with pytest.raises(ProcessFailed, match=r"ended with 3(.|\n)*no such flag"):
        process.start(lambda: False)


def test_stop_ends_a_process_that_ignores_sigterm(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $!; wait"
    process = Process("stubborn", ["sh", "-c", script], tmp_path / "log")
    process.start(process.log.read_text)
    grandchild = int(process.log.read_text())
    process.stop(grace_seconds=0.3)
    assert process.returncode == -signal.SIGKILL
    wait_until("its child to be gone", lambda: not is_alive(grandchild))
