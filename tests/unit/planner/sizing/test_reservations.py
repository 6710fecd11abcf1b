"""GPUReservations: ready before the window, not earlier than needed, and never at anybody's cost."""

from dataclasses import replace

from poolmgr.domain.demand import Reservation
from poolmgr.domain.fleet import EvictionRule, SideLimits
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import A10, NOW, node, pod, pool, snapshot, vm

HOUR = 3_600.0


def reservation(gpus: int, *, opens_in: float = 0.0, mode: Mode = Mode.PASSTHROUGH) -> Reservation:
    return Reservation("desktops", "course", A10, gpus, mode, NOW + opens_in, NOW + opens_in + HOUR)


def decide(view: ClusterSnapshot) -> Plan:
    return PoolPlanner().decide(view, None).plan


def test_idle_gpus_come_over_shortly_before_the_window_opens() -> None:
    view = snapshot(node("a", "sss"), reservations=(reservation(2, opens_in=300),))
    plan = decide(view)
    assert [(m.to_mode, m.reason) for m in plan.moves] == [(Mode.PASSTHROUGH, Reason.RESERVATION_DUE)] * 2
    assert "reserved by desktops/course" in plan.moves[0].message


def test_nothing_moves_long_before_the_window_or_after_it() -> None:
    early = snapshot(node("a", "ss"), reservations=(reservation(2, opens_in=2 * HOUR),))
    late = snapshot(node("a", "ss"), reservations=(reservation(2, opens_in=-2 * HOUR),))
    assert decide(early).empty
    assert decide(late).empty


def test_reserved_gpus_are_not_given_back_while_pods_wait() -> None:
    view = snapshot(
        node("a", "pp"),
        pods=(pod("x", cores=100), pod("y", cores=100)),
        pools=(pool(cooldown_seconds=0),),
        reservations=(reservation(1),),
    )
    assert len(decide(view).moves) == 1


def test_what_its_namespace_already_uses_counts_towards_a_reservation() -> None:
    view = snapshot(node("a", "pss"), vms=(vm("v", on=("a", 0)),), reservations=(reservation(2),))
    assert len(decide(view).moves) == 1


def test_gpus_in_use_are_closed_ahead_of_the_window_and_nobody_is_evicted() -> None:
    young = pod("x", ("a", 0), cores=100, best_effort=True, evictable=True, started_at=NOW - 60)
    view = snapshot(
        node("a", "s"),
        pods=(young,),
        pools=(pool(eviction=EvictionRule.BEST_EFFORT),),
        reservations=(reservation(1, opens_in=900),),
    )
    view = replace(view, nodes=(*view.nodes, node("b", "p")), vms=(vm("v", on=("b", 0), namespace="else"),))
    (move,) = decide(view).moves
    assert (move.wait_for, move.evict) == ((young.uid,), ())


def test_reserved_shared_gpus_come_back_and_are_not_taken_for_vms() -> None:
    for_pods = reservation(2, mode=Mode.SHARED)
    back = decide(snapshot(node("a", "pp"), reservations=(for_pods,)))
    assert [m.to_mode for m in back.moves] == [Mode.SHARED] * 2
    kept = decide(snapshot(node("a", "ss"), vms=(vm("v"),), reservations=(for_pods,)))
    assert kept.empty
    assert any(r.reason is Reason.AT_MINIMUM for r in kept.refusals)


def test_a_reservation_keeps_the_bounds_of_its_pool() -> None:
    view = snapshot(
        node("a", "sss"), pools=(pool(passthrough=SideLimits(max=1)),), reservations=(reservation(3),)
    )
    assert len(decide(view).moves) == 1


def test_a_reservation_of_a_model_that_is_not_there_moves_nothing() -> None:
    view = snapshot(node("a", "ss"), reservations=(replace(reservation(1), model="NVIDIA L40S"),))
    assert decide(view).empty
