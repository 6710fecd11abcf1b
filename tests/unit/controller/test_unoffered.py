"""GPUs that an agent reports for VMs and the kubelet does not offer count for nobody after a minute and a half."""

from dataclasses import replace

from poolmgr.controller.guard import validate
from poolmgr.controller.unoffered import FORGOTTEN_AFTER_SECONDS, OFFERED_WITHIN_SECONDS, Unoffered
from poolmgr.controller.unserved import Unserved
from poolmgr.domain.fleet import Node, SideLimits
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import NOW, RESOURCE, moving, node, pool, snapshot, vm

HONEST = node("honest", "ss", offered=((RESOURCE, 0),))
LIAR = node("liar", "pp", offered=((RESOURCE, 0),))
LATE = OFFERED_WITHIN_SECONDS + 1.0
MOST_TWO = (pool(passthrough=SideLimits(max=2)),)
"""As many as the liar says it has."""


def offering(number: int) -> Node:
    return replace(LIAR, offered=((RESOURCE, number),))


def after(seconds: float, *nodes: Node) -> ClusterSnapshot:
    return snapshot(*(nodes or (HONEST, LIAR)), vms=(vm("v"),), pools=MOST_TWO, taken_at=NOW + seconds)


def decided(view: ClusterSnapshot) -> Plan:
    return PoolPlanner().decide(view, None).plan


def closed(view: ClusterSnapshot) -> list[bool]:
    """Of each GPU of the liar."""
    return [gpu.closed is not None for n in view.nodes if n.name == "liar" for gpu in n.gpus]


def test_they_are_believed_for_a_while_and_then_an_honest_gpu_moves() -> None:
    seen = Unoffered()
    for seconds in (0.0, OFFERED_WITHIN_SECONDS - 1.0):
        view = seen.applied(after(seconds))
        assert view == after(seconds)
        plan = decided(view)
        assert plan.moves == ()
        assert [r.reason for r in plan.refusals if r.subject.name == "v"] == [Reason.FREE_CAPACITY]
    view = seen.applied(after(LATE))
    [move] = decided(view).moves
    assert (move.node, move.to_mode) == ("honest", Mode.PASSTHROUGH)
    assert validate((move,), view)[0] == (move,), "they do not fill the pool either"
    assert validate((move,), after(LATE))[1][0].reason is Reason.AT_MAXIMUM


def test_a_machine_that_could_not_start_on_them_is_not_given_up_for_it() -> None:
    unoffered, unserved = Unoffered(), Unserved()
    moved = []
    for seconds in range(0, 200, 10):
        view = unserved.applied(unoffered.applied(after(float(seconds))))
        plan = decided(view)
        unserved.follow(plan, view)
        moved.append([move.node for move in plan.moves])
        assert all(machine.servable for machine in view.vms)
    assert moved == [[]] * 9 + [["honest"]] * 11


def test_what_keeps_them_says_where_to_look_and_nothing_moves_them() -> None:
    seen = Unoffered()
    seen.applied(after(0.0))
    [_, liar] = seen.applied(after(LATE)).nodes
    for gpu in liar.gpus:
        assert gpu.closed is gpu.rebind
        assert (gpu.rebind.ok, gpu.rebind.reason) == (False, Reason.NOT_OFFERED)
        assert f"the kubelet of liar does not offer it as {RESOURCE}" in gpu.rebind.message


def test_they_count_again_at_once_when_the_kubelet_offers_them() -> None:
    seen = Unoffered()
    seen.applied(after(0.0))
    assert closed(seen.applied(after(LATE))) == [True, True]
    assert closed(seen.applied(after(LATE + 1.0, HONEST, offering(1)))) == [True, False]
    view = after(LATE + 2.0, HONEST, offering(2))
    assert seen.applied(view) is view


def test_a_kubelet_that_restarts_now_and_then_is_believed() -> None:
    seen = Unoffered()
    at = 0.0
    for _ in range(20):
        assert closed(seen.applied(after(at, HONEST, LIAR))) == [False, False]
        assert closed(seen.applied(after(at + 30.0, HONEST, offering(2)))) == [False, False]
        at += 30.0 + FORGOTTEN_AFTER_SECONDS + 1.0
        seen.applied(after(at - 0.5, HONEST, offering(2)))


def test_one_that_offers_them_for_a_moment_each_minute_is_not() -> None:
    seen = Unoffered()
    for minute in range(3):
        assert closed(seen.applied(after(60.0 * minute))) == [minute == 2] * 2
        seen.applied(after(60.0 * minute + 59.9, HONEST, LIAR))
        seen.applied(after(60.0 * minute + 59.95, HONEST, offering(2)))


def test_a_gpu_that_is_just_moving_is_left_to_its_move() -> None:
    seen = Unoffered()
    under_way = replace(LIAR, transition=moving("liar", 0, 1))
    for seconds in (0.0, LATE):
        view = after(seconds, HONEST, under_way)
        assert seen.applied(view) is view


def test_the_marked_node_is_the_very_same_value_while_nothing_changes() -> None:
    seen = Unoffered()
    seen.applied(after(0.0))
    first, second = (seen.applied(after(LATE + more)).nodes[1] for more in (0.0, 1.0))
    assert first is second


def test_nodes_that_are_gone_are_forgotten() -> None:
    seen = Unoffered()
    seen.applied(after(0.0))
    view = after(1.0, HONEST)
    assert seen.applied(view) is view
    assert closed(seen.applied(after(LATE))) == [False, False]
