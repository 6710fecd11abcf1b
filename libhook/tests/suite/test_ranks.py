"""Ranks of one container on several GPUs that wait for each other in collectives: on the fake machine's virtual clock, where
no rank waits for a processor, beside one rank alone; on the second driver and the real clock, beside the same ranks without a
limit."""

from pathlib import Path

import pytest

from conftest import SECOND_DRIVER, Machine, ahead_of_others

SECONDS = "4"


@pytest.mark.parametrize("how", [(), ("threads",)], ids=["processes", "threads"])
@pytest.mark.parametrize(("ranks", "limit"), [(2, 5), (2, 30), (2, 95), (4, 50), (8, 10)])
def test_ranks_that_meet_make_nine_tenths_of_what_one_makes(
    machine: Machine, tmp_path: Path, ranks: int, limit: int, how: tuple[str, ...]
) -> None:
    """Every 4 ms of work: two at 5 % made three quarters of it. Whoever was released first waited for the others in the
    collective, after their rests and not during them, and paid for that."""

    def made(ranks: int) -> int:
        alone = Machine(tmp_path / str(ranks), machine.drift_ppm)
        alone.folder.mkdir()
        done = alone.run(
            "ranks",
            str(ranks),
            SECONDS,
            "4",
            *how,
            virtual=True,
            CUDA_DEVICE_SM_LIMIT=str(limit),
            FAKE_CUDA_DEVICES=str(ranks),
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return int(done.stdout)

    assert made(ranks) >= 0.9 * made(1)


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
