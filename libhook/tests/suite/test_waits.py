"""Programs that let their own streams go on, and captures: they end as they do without a hook, on both fake drivers."""

import pytest

from conftest import Machine, on_both_drivers

CASES = [
    "gate-first",
    "gate-queue",
    "gate-frames",
    "blocking-kernel",
    "full-queue",
    "capture",
    "capture-global",
    "recapture",
]
LIMITS = {
    "memory alone": {"CUDA_DEVICE_MEMORY_LIMIT": "1g"},
    "half": {"CUDA_DEVICE_SM_LIMIT": "50"},
    "a tenth": {"CUDA_DEVICE_SM_LIMIT": "10"},
    "much in flight": {"CUDA_DEVICE_SM_LIMIT": "50", "POOLMGR_HOOK_IN_FLIGHT_MS": "10000"},
}


@on_both_drivers
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
def test_a_program_that_its_own_streams_wait_for_goes_on(
    machine: Machine, driver: dict[str, str], case: str, limits: dict[str, str]
) -> None:
    done = machine.run("waits", case, FAKE_CUDA_STRICT="1", **driver, **limits)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@on_both_drivers
@pytest.mark.parametrize("case", CASES)
def test_the_programs_are_legal_without_a_hook(machine: Machine, driver: dict[str, str], case: str) -> None:
    done = machine.run("waits", case, hook=None, FAKE_CUDA_STRICT="1", **driver)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
