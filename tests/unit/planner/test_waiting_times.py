"""Waits are measured case by case from plans and from who has started, and what was seen outlives the process."""

import json
from dataclasses import replace

from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.estimates import ENOUGH, TOGETHER_SECONDS, Situation
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.waiting_times import WaitingTimes
from tests.unit.planner.builders import NOW, RESOURCE, moving, node, pod, snapshot, vm


def about(name: str) -> Subject:
    return Subject(SubjectKind.VM, "desktops", name)


def started(found: Vm) -> Vm:
    return replace(found, node=NodeName("a"), waiting_since=None)


def see(times: WaitingTimes, view: ClusterSnapshot) -> dict[Subject, object]:
    return dict(times.follow(PoolPlanner().decide(view, None).plan, view))


def measure(times: WaitingTimes, seconds: float, number: int = ENOUGH) -> None:
    """So many VMs came one after the other, a GPU moved for each, and each started after `seconds`."""
    for rank in range(number):
        at = NOW + rank * TOGETHER_SECONDS
        waits = vm(f"past-{seconds}-{rank}")
        see(times, snapshot(node("a", "s"), vms=(waits,), taken_at=at))
        see(times, snapshot(node("a", "s"), vms=(started(waits),), taken_at=at + seconds))


def test_a_clusters_own_moves_replace_the_assumption() -> None:
    times = WaitingTimes()
    view = snapshot(node("a", "s"), vms=(vm("v"),), taken_at=NOW + 1e6)
    assert times.follow(PoolPlanner().decide(view, None).plan, view)[about("v")].assumed
    measure(times, 150.0)
    view = snapshot(node("a", "s"), vms=(vm("w"),), taken_at=NOW + 1e6)
    found = times.follow(PoolPlanner().decide(view, None).plan, view)[about("w")]
    assert (found.assumed, found.median, found.situation) == (False, 150.0, Situation.MOVING)


def test_who_waits_behind_others_is_told_its_place() -> None:
    busy = tuple(pod(f"p{n}", ("a", n), cores=100) for n in range(2))
    waits = tuple(vm(f"v{n}", waiting_since=NOW - 10.0 + n) for n in range(3))
    view = snapshot(node("a", "ss"), vms=waits, pods=busy)
    found = WaitingTimes().follow(PoolPlanner().decide(view, None).plan, view)
    assert [found[about(f"v{n}")].position for n in range(3)] == [1, 2, 3]
    assert not any(found[about(f"v{n}")].known for n in range(3))


def test_one_that_cannot_start_stands_in_no_line() -> None:
    view = snapshot(node("a", "s"), vms=(vm("v", claims=(DeviceClaim("nvidia.com/NO", 1),)),))
    assert WaitingTimes().follow(PoolPlanner().decide(view, None).plan, view) == {}


def test_what_was_measured_is_told_on_arrival_only_of_those_who_found_nothing_free() -> None:
    times = WaitingTimes()
    measure(times, 90.0)
    for rank in range(ENOUGH):
        at, waits = NOW + 1e6 + rank * TOGETHER_SECONDS, vm(f"free-{rank}")
        see(times, snapshot(node("a", "p"), vms=(waits,), taken_at=at))
        see(times, snapshot(node("a", "p"), vms=(started(waits),), taken_at=at + 2.0))
    assert times.on_arrival(NOW + 2e6)[RESOURCE].median == 90.0


def test_those_who_gave_up_are_no_starts() -> None:
    times = WaitingTimes()
    for rank in range(ENOUGH):
        at, waits = NOW + rank * TOGETHER_SECONDS, vm(f"v{rank}")
        see(times, snapshot(node("a", "s", transition=moving("a", 0)), vms=(waits,), taken_at=at))
        see(times, snapshot(node("a", "s"), taken_at=at + 5.0))
    assert not times.on_arrival(NOW + 1e6)[RESOURCE].known


def test_what_was_seen_is_read_back_and_what_cannot_be_read_is_left_out() -> None:
    times = WaitingTimes()
    measure(times, 150.0)
    kept = json.loads(json.dumps(times.learned()))
    again = WaitingTimes()
    again.recall(
        [*kept, ["odd"], 7, [RESOURCE, "NewerSituation", False, 0, []], [RESOURCE, "New", False, 0, [["x"]]]]
    )
    assert again.learned() == times.learned()
    again.recall("no list")
    again.recall([[RESOURCE, "New", False, 0, [[float("nan"), True, 0.0], [5.0, True, float("inf")]]]])
    assert again.learned() == times.learned()
