"""tools/packages.sh on machines that cannot install anything: it says what somebody else has to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.suite.__main__ import ROOT

pytestmark = pytest.mark.integration


def asked(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """By a user without rights on a machine that has these programs (name → script) and no package of a group."""
    for name in ("env", "bash", "sh", "grep"):
        (folder / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name}"))
    for name, script in {"id": "echo 1000", **programs}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        [ROOT / "tools/packages.sh", "bench", "parts"],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_apt_nobody_is_told_to_run_it(tmp_path: Path) -> None:
    done = asked(tmp_path)
    assert done.returncode == 1
    assert "missing: wrk skopeo (no apt-get here" in done.stderr
    assert "sudo" not in done.stderr


def test_without_rights_the_command_is_printed(tmp_path: Path) -> None:
    done = asked(tmp_path, **{"apt-get": "exit 99"})
    assert done.returncode == 1
    assert "run: sudo apt-get install -y --no-install-recommends wrk skopeo\n" in done.stderr
