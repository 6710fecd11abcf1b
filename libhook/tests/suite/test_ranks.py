"""Ranks of one container on several GPUs that wait for each other in collectives, on the second driver and the real
clock: what is compared is one run with another of the same length and the same threads."""

import pytest

from conftest import SECOND_DRIVER, Machine, ahead_of_others

SECONDS = "4"


def iterations(machine: Machine, ranks: int, *how: str, **settings: str) -> int:
    machine.region.unlink(missing_ok=True)
    done = machine.run(
        "ranks",
        str(ranks),
        SECONDS,
        "12",
        *how,
        within=ahead_of_others(),
        SECOND_DEVICES=str(ranks),
        **SECOND_DRIVER,
        **settings,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("how", [(), ("threads",)], ids=["processes", "threads"])
@pytest.mark.parametrize(("ranks", "limit"), [(2, 10), (2, 30), (4, 30), (8, 30)])
def test_ranks_that_meet_get_their_share_of_what_they_do_without_a_limit(
    machine: Machine, ranks: int, limit: int, how: tuple[str, ...]
) -> None:
    """Two at 30 % made a fifth of it: each paid for the other's rests. The same ranks without a limit are the measure,
    because they wait for the same processors: one rank alone does not. Two thirds of the share, in up to five tries taken
    together, allow for a busy machine where nobody may go ahead of others."""
    limited = free = 0
    for _ in range(5):
        free += iterations(machine, ranks, *how)
        limited += iterations(machine, ranks, *how, CUDA_DEVICE_SM_LIMIT=str(limit))
        if limited > free * limit / 100 * 2 / 3:
            return
    pytest.fail(f"{ranks} ranks made {limited} iterations at {limit} % and {free} without a limit")
