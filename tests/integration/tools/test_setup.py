"""tools/setup.sh with a uv of the test's own, which says how it was called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.suite.__main__ import ROOT

pytestmark = pytest.mark.integration

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One that has uv and no environment yet; its path has a space."""
    folder = tmp_path / "my checkout"
    uv = folder / ".venv/tools/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(
        '#!/bin/sh\necho "$1 ${UV_CACHE_DIR:-its own}" >>calls; echo "${UV_SYSTEM_CERTS:-}" >certificates\n'
    )
    uv.chmod(0o755)
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools/setup.sh", folder / "tools")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "uv.lock").touch()
    return folder


def set_up(checkout: Path, **environment: str) -> list[str]:
    """What uv was called with, and with which cache."""
    subprocess.run(["tools/setup.sh"], cwd=checkout, env=os.environ | environment, check=True)
    calls = checkout / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_an_environment_that_is_up_to_date_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "", "UV_CACHE_DIR": ""}
    assert set_up(checkout, **home) == ["venv its own", "sync its own"]
    assert len(set_up(checkout, **home)) == 2


def test_where_the_home_cannot_be_written_the_cache_is_in_the_checkout(checkout: Path) -> None:
    calls = set_up(checkout, HOME="/proc/nowhere", XDG_CACHE_HOME="", UV_CACHE_DIR="")
    assert calls == [f"{step} {checkout}/.venv/uv-cache" for step in ("venv", "sync")]


@pytest.mark.skipif(not SYSTEM_CERTIFICATES.exists(), reason="this system has no list of certificates")
@pytest.mark.parametrize(("given", "used"), [({}, "1"), ({"UV_SYSTEM_CERTS": "false"}, "false")])
def test_uv_trusts_whom_the_system_trusts(given: dict[str, str], used: str, checkout: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "UV_SYSTEM_CERTS"}
    subprocess.run(["make", "setup"], cwd=checkout, env=environment | given, check=True)
    assert (checkout / "certificates").read_text().strip() == used
