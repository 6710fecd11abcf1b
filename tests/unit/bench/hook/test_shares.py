"""What part of the GPU a program got, on the fake machine and on a real one."""

import stat
from pathlib import Path

import pytest

from bench.hook.bed import Bed, RealGpu
from bench.hook.containers import Arm, Program
from bench.hook.shares import Shares, launches_per_second, share

SCRIPT = """#!/bin/sh
[ -n "$LD_PRELOAD" ] && launches=25 || launches=200
echo "{\\"busy_ns\\": 500, \\"elapsed_ns\\": 1000, \\"launches\\": $launches}"
"""
"""Alone it launches eight times as often as under the library."""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    program = tmp_path / "tests/programs/program_share"
    program.parent.mkdir(parents=True)
    program.write_text(SCRIPT)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return tmp_path


LIBRARY = Arm("a library", Path("/nonexistent/libvgpu.so"))


def test_processes_count_together_over_the_longest() -> None:
    lines: list[dict[str, float]] = [
        {"busy_ns": 20, "elapsed_ns": 90, "launches": 2},
        {"busy_ns": 30, "elapsed_ns": 100, "launches": 1},
    ]
    assert share(lines) == 50
    assert launches_per_second(lines) == pytest.approx(3e7)


def test_the_fake_machine_counts_itself(build: Path) -> None:
    assert Shares(Bed(build)).of(LIBRARY, Program("share", core_limit=50)) == 50


def test_on_a_gpu_the_same_program_without_a_hook_is_the_yardstick(build: Path) -> None:
    bed = Bed(build, RealGpu("NVIDIA H200", 13000, Path("/driver")))
    assert Shares(bed).of(LIBRARY, Program("share", core_limit=50)) == pytest.approx(12.5)
