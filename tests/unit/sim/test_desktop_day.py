"""The demo's demand: equal for equal seeds, of the size that was asked for."""

import numpy as np

from poolmgr.sim.desktop_day import DesktopDay, containers_of, desktop_day, desktops_of


def test_equal_seeds_give_equal_days_and_others_differ() -> None:
    day = DesktopDay()
    one, same, other = (desktops_of(day, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_container_work_is_what_was_asked_for() -> None:
    day = DesktopDay(pods_load=0.5)
    pods = containers_of(day, np.random.default_rng(3))
    work = sum(p.duration_seconds * p.cores_percent / 100 for p in pods)
    assert 0.45 < work / (day.gpus * 24 * 3_600) < 0.7


async def test_first_hours_run_containers_and_leave_virtual_desktops_waiting() -> None:
    fleet = desktop_day(1, DesktopDay(nodes=2))
    await fleet.clock.run_for(2 * 3_600)
    seen = await fleet.snapshot()
    assert seen.vms
    assert all(v.waiting for v in seen.vms)  # every GPU starts shared and no manager runs
    assert any(p.started_at is not None for p in seen.pods)
    assert fleet.world.violations == []
