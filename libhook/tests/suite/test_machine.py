"""The fake machine itself: what the other tests stand on."""

import pytest

from conftest import Machine, share_of, up_for


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
