"""`poolmgr bench hook` when it is ended before its table."""

import signal
import subprocess
import sys
import time
from pathlib import Path

HUNG = '#!/bin/sh\necho $$ > "$0.pid"\nexec sleep 1000\n'


def test_no_program_outlives_a_run_that_is_told_to_end(tmp_path: Path) -> None:
    programs = tmp_path / "tests/programs"
    programs.mkdir(parents=True)
    for name in ("cost", "contend"):
        (programs / f"program_{name}").write_text(HUNG)
        (programs / f"program_{name}").chmod(0o755)
    command = [sys.executable, "-m", "poolmgr.cli.main", "bench", "hook", "--build", str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pid_file = programs / "program_contend.pid"
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait() != 0
    finally:
        running.kill()
    assert not Path("/proc", pid_file.read_text().strip()).exists()
