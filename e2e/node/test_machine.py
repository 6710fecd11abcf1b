"""The node as a tool: it runs commands faithfully and leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.node.machine import MachineSpec
from e2e.node.node import REPOSITORY, GuestNode


def test_commands_come_back_with_status_and_both_streams(guest_node: GuestNode) -> None:
    rc, out, err = guest_node.run("cat; echo oops >&2; exit 3", stdin=b"hello")
    assert (rc, out, err) == (3, "hello", "oops\n")
    assert guest_node.run(["no-such-program"]).rc == 127
    late = guest_node.run(["sleep", "60"], timeout_seconds=1)
    assert late.timed_out and late.rc == -signal.SIGKILL


def test_files_go_in_and_come_back(guest_node: GuestNode) -> None:
    content = "line one\n'quoted' $HOME\n" * 20_000
    guest_node.put(content, "/run/a folder/file")
    assert guest_node.get("/run/a folder/file") == content


def test_programs_started_keep_running_and_log(guest_node: GuestNode) -> None:
    pid = guest_node.start("ticker", "sh -c 'echo up; exec sleep 300'")
    guest_node.wait_for("grep -q up /var/log/node/ticker.log")
    assert guest_node.run(f"kill -0 {pid}").rc == 0
    assert "up" in guest_node.logs("ticker")
    guest_node.run(f"kill {pid}")


def test_the_checkout_is_the_guests_too(guest_node: GuestNode) -> None:
    rc, out, _ = guest_node.run(
        [str(REPOSITORY / ".venv/bin/python"), "-c", "import poolmgr; print(poolmgr.__file__)"]
    )
    assert rc == 0
    assert out.strip() == str(REPOSITORY / "poolmgr/__init__.py")


OWNER = """
import sys, time
from pathlib import Path
import pytest

from e2e.node.machine import Machine, MachineSpec
from e2e.node.machine_lock import MachineLock
machine = Machine(MachineSpec(memory="256M", cpus=1), Path(sys.argv[1]))
machine._lock = MachineLock(Path(sys.argv[1]) / "lock")  # a second guest, for seconds
machine.start()
print("started", flush=True)
time.sleep(600)
"""


def qemu_running_for(directory: Path) -> bool:
    """Whether a QEMU with that folder on its command line is there (pgrep prints its pid)."""
    found = subprocess.run(["pgrep", "-f", f"qemu-system.*{directory}"], check=False, capture_output=True)
    return found.returncode == 0


@pytest.mark.node
def test_nothing_stays_when_the_test_process_is_killed(tmp_path: Path) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"started\n"
    deadline = time.monotonic() + 30
    while not qemu_running_for(tmp_path):
        assert time.monotonic() < deadline, "QEMU never started"
        time.sleep(0.1)
    victim.kill()
    victim.wait()
    deadline = time.monotonic() + 10
    while qemu_running_for(tmp_path):
        assert time.monotonic() < deadline, "QEMU outlived its owner"
        time.sleep(0.1)


def test_gpus_sit_where_the_specification_says() -> None:
    spec = MachineSpec(gpus=3)
    assert spec.gpu_addresses == ("0000:00:10.0", "0000:00:11.0", "0000:00:12.0")
    assert spec.companion_address(2) == "0000:00:12.1"
