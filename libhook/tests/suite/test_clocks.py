"""GPUs' clocks that run at another speed than the host's, and that leap. Every other test has 200 ppm of drift too."""

import pytest

from conftest import Machine, share_of


def share(machine: Machine, *arguments: str, **settings: str) -> float:
    done = machine.run(
        "share", "--ns", "1000000", *arguments, virtual=True,
        CUDA_DEVICE_SM_LIMIT="50", FAKE_CUDA_CALL_NS="500", **settings,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return share_of(done.stdout)


@pytest.mark.parametrize("ppm", [-1000, -200, 200, 1000])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_share_holds_after_a_while_of_drift(machine: Machine, mode: str, ppm: int) -> None:
    """200 ppm slow, it got 12 of 50 % after 40 s, and 7 after 100."""
    got = share(machine, "--mode", mode, "--warm", "40", "--seconds", "10", FAKE_CUDA_DRIFT_PPM=str(ppm))
    assert got == pytest.approx(50, abs=2)


@pytest.mark.parametrize("hours", [-1, 1])
def test_share_holds_when_the_gpus_clock_leaps(machine: Machine, hours: int) -> None:
    """As when the host has slept: CLOCK_MONOTONIC stands still meanwhile."""
    got = share(
        machine, "--seconds", "20",
        FAKE_CUDA_LEAP_AT_MS="5000", FAKE_CUDA_LEAP_MS=str(hours * 3_600_000),
    )  # fmt: skip
    assert got == pytest.approx(50, abs=2)
