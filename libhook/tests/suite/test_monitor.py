"""What HAMi's monitor writes into the region reaches programs, whatever else limits them."""

import json

import pytest

from conftest import Machine, share_of

RECENT_KERNEL = 2_008_904
UTILIZATION = 1856 + 1160 + 16
"""Percent of the first GPU that the program in the first slot used, ever since its last report."""


def test_a_program_without_a_gpu_time_limit_stands_still_when_told(machine: Machine) -> None:
    done = machine.run(
        "share", "--ns", "1000000", "--mode", "sync", "--seconds", "3", "--region", str(machine.region),
        "--write-at", "1", "--undo-at", "2", "--offset", str(RECENT_KERNEL), "--size", "4", "--value", "-1",
        "--undo-value", "0", virtual=True, CUDA_DEVICE_MEMORY_LIMIT="1g",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert share_of(done.stdout) == pytest.approx(200 / 3, abs=2), "one of its three seconds it stood still"


@pytest.mark.parametrize(
    "work",
    [
        ("sync", "1000000"),
        ("sync", "2000000000"),
        ("async", "100000"),
        ("graph", "10000"),
        ("think", "1000000", "1000000"),
        ("think", "30000", "70000"),
    ],
    ids=" ".join,
)
def test_without_a_gpu_time_limit_the_monitor_sees_how_much_is_used(
    machine: Machine, work: tuple[str, ...]
) -> None:
    mode, ns, *think = work
    pause = ("--think-ns", think[0]) if think else ()
    done = machine.run(
        "share", "--mode", mode, "--ns", ns, *pause, "--seconds", "4", "--region", str(machine.region),
        "--read", str(UTILIZATION), virtual=True,
        CUDA_DEVICE_MEMORY_LIMIT="1g", FAKE_CUDA_CALL_NS="2000",
    )  # fmt: skip
    assert json.loads(done.stdout)["read"] == pytest.approx(share_of(done.stdout), abs=5), done.stderr


def test_programs_that_launch_a_lot_are_timed_for_a_small_part_of_the_time(machine: Machine) -> None:
    def events(utilization: str) -> int:
        log = machine.folder / utilization
        done = machine.run(
            "share", "--ns", "100000", "--seconds", "3", virtual=True, FAKE_CUDA_CALL_NS="2000",
            CUDA_DEVICE_MEMORY_LIMIT="1g", POOLMGR_HOOK_UTILIZATION=utilization, FAKE_CUDA_LOG=str(log),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return log.read_text().count("cuEventRecord")

    assert events("off") == 0
    assert 0 < events("sampled") < 0.1 * 2 * 3 * 10_000
