"""GPUs that are free for a machine for two minutes and are not taken go to others."""

from dataclasses import replace

from poolmgr.controller.unserved import TAKEN_WITHIN_SECONDS, TRIED_AGAIN_AFTER_SECONDS, Unserved
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import NOW, node, pod, snapshot, vm

WAITS = vm("v", scheduler_message="0/1 nodes are available: 1 node(s) had volume node affinity conflict.")
POD = pod("p")


def look(seen: Unserved, after: float, *vms: object, modes: str = "p") -> tuple[ClusterSnapshot, list[Mode]]:
    """One look at a cluster with one node, `after` seconds; the plan's moves."""
    view = snapshot(node("a", modes), vms=vms or (WAITS,), pods=(POD,), taken_at=NOW + after)
    view = seen.applied(view)
    plan = PoolPlanner().decide(view, None).plan
    seen.follow(plan, view)
    return view, [move.to_mode for move in plan.moves]


def test_a_gpu_is_kept_for_two_minutes_and_then_given_back_with_the_schedulers_word() -> None:
    seen = Unserved()
    assert look(seen, 0.0)[1] == []
    assert look(seen, TAKEN_WITHIN_SECONDS - 1.0)[1] == []
    assert look(seen, TAKEN_WITHIN_SECONDS)[1] == []  # this look notes it
    view, moves = look(seen, TAKEN_WITHIN_SECONDS + 1.0)
    assert moves == [Mode.SHARED]
    [machine] = view.vms
    assert machine.servable.reason is Reason.NOT_TAKEN
    assert "volume node affinity conflict" in machine.servable.message


def test_a_gpu_that_was_taken_meanwhile_begins_the_time_anew() -> None:
    seen = Unserved()
    look(seen, 0.0)
    other = replace(vm("other", on=("a", 0)), uid=WAITS.uid + "2")
    look(seen, 60.0, WAITS, other)
    look(seen, TAKEN_WITHIN_SECONDS + 1.0)
    assert look(seen, TAKEN_WITHIN_SECONDS + 2.0)[1] == []


def given_up() -> Unserved:
    seen = Unserved()
    for after in (0.0, TAKEN_WITHIN_SECONDS, TAKEN_WITHIN_SECONDS + 1.0):
        look(seen, after)
    return seen


def test_a_new_launcher_is_tried_anew() -> None:
    seen = given_up()
    anew = replace(WAITS, launcher_uid="another")
    assert look(seen, TAKEN_WITHIN_SECONDS + 2.0, anew)[1] == []


def test_so_is_the_same_one_after_half_an_hour() -> None:
    seen = given_up()
    assert look(seen, TRIED_AGAIN_AFTER_SECONDS)[1] == [Mode.SHARED]
    assert look(seen, TAKEN_WITHIN_SECONDS + TRIED_AGAIN_AFTER_SECONDS + 1.0)[1] == []


def test_one_that_runs_after_all_is_left_alone() -> None:
    seen = given_up()
    runs = replace(WAITS, node=NodeName("a"), waiting_since=None)
    [machine] = look(seen, TAKEN_WITHIN_SECONDS + 2.0, runs)[0].vms
    assert machine.servable


def test_others_are_the_very_same_values() -> None:
    view = snapshot(node("a", "p"), vms=(WAITS,))
    assert Unserved().applied(view) is view
