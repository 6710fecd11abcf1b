"""The fake machine itself: what the other tests stand on."""

import subprocess
from pathlib import Path

import pytest

from conftest import PATIENCE, Machine, share_of, up_for


@pytest.mark.parametrize("uptime_seconds", [5, 900, 100 * 86_400])
@pytest.mark.parametrize("limit", [None, "50"])
def test_on_the_real_clock_it_does_not_matter_how_long_the_host_has_been_up(
    machine: Machine, uptime_seconds: int, limit: str | None
) -> None:
    limits = {"CUDA_DEVICE_SM_LIMIT": limit} if limit else {}
    for seconds in ("0.2", "2", "20"):  # beside much other work, no launch comes to its end in the first
        done = machine.run(
            "share",
            "--mode",
            "sync",
            "--ns",
            "200000",
            "--seconds",
            seconds,
            within=up_for(uptime_seconds),
            **limits,
        )
        assert done.returncode == 0, done.stderr
        if share_of(done.stdout) > 0:
            break
    assert 0 < share_of(done.stdout) <= 100


def test_a_machine_keeps_the_clock_that_it_began_on(machine: Machine) -> None:
    assert machine.run("share", "--seconds", "0.01", virtual=True).returncode == 0
    other = machine.run("share", "--seconds", "0.01")
    assert other.returncode != 0
    assert "begun on the virtual clock, opened on the other" in other.stderr


@pytest.mark.parametrize("first", [0, 1])
def test_programs_that_begin_together_share_time_whichever_comes_late(
    machine: Machine, tmp_path: Path, first: int
) -> None:
    """Whoever came first had the GPU alone until the other came: on a busy machine that was most of its time."""
    limits = ["30", "70"]
    running = {}
    for index in (first, 1 - first):
        running[index] = machine.start(
            "share", "--seconds", "2", "--ns", "1000000", "--programs", "2",
            CUDA_DEVICE_SM_LIMIT=limits[index], CUDA_DEVICE_MEMORY_SHARED_CACHE=str(tmp_path / f"{index}.cache"),
            POOLMGR_HOOK_ACTIVITY=str(tmp_path),
        )  # fmt: skip
        if index == first:
            with pytest.raises(subprocess.TimeoutExpired):
                running[index].wait(timeout=1)
    shares = [share_of(running[index].communicate(timeout=PATIENCE)[0]) for index in (0, 1)]
    assert shares == [pytest.approx(30, abs=2), pytest.approx(70, abs=2)]
