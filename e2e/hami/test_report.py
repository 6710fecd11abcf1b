"""A run of pytest says before its first test, in its last line and in its report which HAMi it was on."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from e2e.cache import PROJECT_ROOT

ON_HAMI = """
import pytest
from e2e.hami import edition

@pytest.mark.hami("2.10.0")
def test_on_hami():
    edition.take("2.10.0")
"""
WITHOUT = "def test_without(): pass\n"
STAND_IN = "HAMi 2.10.0 (stand-in of this project; not HAMi)"


def run(tmp_path: Path, test: str) -> tuple[list[str], list[str]]:
    """Lines that pytest prints, and the HAMi that its report names."""
    (tmp_path / "test_it.py").write_text(test)
    report = tmp_path / "report.xml"
    options = ["-q", "-p", "no:schemathesis", "-p", "no:cacheprovider", "-p", "e2e.hami.report"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *options,
            f"--rootdir={tmp_path}",
            f"--junit-xml={report}",
            "test_it.py",
        ],
        cwd=tmp_path,
        env=os.environ | {"POOLMGR_HAMI": "stand-in", "PYTHONPATH": str(PROJECT_ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    named = [
        item.get("value", "") for item in ET.parse(report).iter("property") if item.get("name") == "hami"
    ]
    return done.stdout.splitlines(), named


@pytest.mark.parametrize(
    ("test", "expected"), [(ON_HAMI, [STAND_IN]), (WITHOUT, [])], ids=["on HAMi", "without"]
)
def test_head_last_line_and_report_name_the_hami(tmp_path: Path, test: str, expected: list[str]) -> None:
    lines, named = run(tmp_path, test)
    assert named == expected
    assert [line for line in lines if line.startswith("runs on")] == [f"runs on {one}" for one in expected]
    assert [line for line in lines if line.startswith("this run")] == [
        f"this run was on {one}" for one in expected
    ]
    assert lines[-1].startswith("this run was on") == bool(expected)
