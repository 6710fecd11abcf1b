"""GPUReservations: ready before the window, not earlier than needed, and never at anybody's cost."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.domain.demand import DeviceClaim, Gate
from poolmgr.domain.fleet import EvictionRule, Quota, SideLimits
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan, ReservationPhase, ReservationState
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import Holders, Reservation, Window
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import A10, NOW, RESOURCE, gpu, node, pod, pool, snapshot, vm

HOUR = 3_600.0


def reservation(
    gpus: int, *, opens_in: float = 0.0, mode: Mode = Mode.PASSTHROUGH, **over: Any
) -> Reservation:
    """Of an hour, for namespace `desktops`."""
    windows = (Window(NOW + opens_in, NOW + opens_in + HOUR),)
    base = Reservation("desktops", "course", A10, gpus, mode, windows, Holders(frozenset({"desktops"})))
    return replace(base, **over)


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
    said = {r.subject.name: r for r in kept.refusals}
    assert said["0000:00:00.0"].reason is Reason.RESERVED
    assert "kept for reservation desktops/course" in said["v"].message


def test_a_reservation_keeps_the_bounds_of_its_pool() -> None:
    view = snapshot(
        node("a", "sss"), pools=(pool(passthrough=SideLimits(max=1)),), reservations=(reservation(3),)
    )
    assert decide(view).empty
    assert decide(view).reservations[0].phase is ReservationPhase.REFUSED
    assert len(decide(replace(view, reservations=(reservation(1),))).moves) == 1


def test_a_reservation_of_a_model_that_is_not_there_moves_nothing() -> None:
    view = snapshot(node("a", "ss"), reservations=(replace(reservation(1), model="NVIDIA L40S"),))
    assert decide(view).empty


GATED: dict[str, Any] = {"gate": Gate.OURS}
STRANGER: dict[str, Any] = {"namespace": "cad", **GATED}


def admitted(view: ClusterSnapshot) -> list[str]:
    return [a.subject.name for a in decide(view).admissions]


def answer_to(view: ClusterSnapshot, name: str) -> tuple[Reason, str]:
    return next((r.reason, r.message) for r in decide(view).refusals if r.subject.name == name)


def state(view: ClusterSnapshot) -> ReservationState:
    (found,) = decide(view).reservations
    return found


def test_a_stranger_is_not_admitted_to_what_is_reserved_and_is_told_until_when() -> None:
    view = snapshot(node("a", "pp"), vms=(vm("s", **STRANGER),), reservations=(reservation(2),))
    assert admitted(view) == []
    assert answer_to(view, "s") == (
        Reason.RESERVED,
        "1 GPU(s) that would serve it are kept for reservation desktops/course, until 1970-01-01 03:46 UTC",
    )
    assert admitted(replace(view, reservations=(reservation(1),))) == ["s"]
    assert admitted(replace(view, reservations=(reservation(2, opens_in=-2 * HOUR),))) == ["s"]


def test_a_holder_is_admitted_to_what_is_reserved_and_to_no_more_than_that() -> None:
    holders = tuple(vm(f"h{n}", **GATED) for n in range(3))
    view = snapshot(node("a", "ppp"), vms=(*holders, vm("s", **STRANGER)), reservations=(reservation(2),))
    assert sorted(admitted(view)) == ["h0", "h1", "h2"]
    older = vm("s", **{**STRANGER, "waiting_since": 50.0})
    assert sorted(admitted(replace(view, vms=(*holders, older)))) == ["h0", "h1", "s"]


def test_what_its_holders_use_is_not_kept_twice() -> None:
    view = snapshot(
        node("a", "ppp"),
        vms=(vm("h", on=("a", 0)), vm("s", **STRANGER), vm("t", **STRANGER)),
        reservations=(reservation(2),),
    )
    assert admitted(view) == ["s"]
    assert (state(view).ready, state(view).used, state(view).kept) == (2, 1, 1)


def test_from_its_lead_on_what_falls_free_is_kept() -> None:
    view = snapshot(node("a", "p"), vms=(vm("s", **STRANGER),), reservations=(reservation(1, opens_in=HOUR),))
    assert admitted(view) == ["s"]
    led = replace(view, reservations=(reservation(1, opens_in=HOUR, lead_seconds=HOUR),))
    assert admitted(led) == []
    assert (state(led).phase, state(led).ready) == (ReservationPhase.PENDING, 1)


def test_long_before_the_window_strangers_wait_behind_the_gate_until_there_is_room() -> None:
    """In the open they would take in the window whatever falls free then."""
    view = snapshot(
        node("a", "s"), vms=(vm("s", **STRANGER),), reservations=(reservation(1, opens_in=9 * HOUR),)
    )
    assert admitted(view) == []
    assert answer_to(view, "s")[0] is Reason.MOVE_UNDER_WAY
    assert admitted(replace(view, reservations=())) == ["s"]


def test_idle_gpus_come_over_for_the_reservation_before_they_do_for_strangers() -> None:
    view = snapshot(node("a", "s"), vms=(vm("s", **STRANGER),), reservations=(reservation(1),))
    assert [m.reason for m in decide(view).moves] == [Reason.RESERVATION_DUE]
    more = replace(view, nodes=(node("a", "ss"),))
    assert [m.reason for m in decide(more).moves] == [Reason.RESERVATION_DUE, Reason.VM_WAITING]


def test_a_stranger_that_was_let_in_before_may_take_one_and_the_status_says_so() -> None:
    before = vm("s", namespace="cad")
    view = snapshot(node("a", "p"), vms=(before,), reservations=(reservation(1),))
    assert answer_to(view, "s")[0] is Reason.FREE_CAPACITY
    assert (
        "1 VM(s) of other users were admitted earlier and still wait: they may take one"
        in state(view).message
    )


def test_a_machine_of_several_kinds_takes_no_reserved_gpu_of_either() -> None:
    other = "nvidia.com/T4"
    gpus = (gpu("a", 0, Mode.PASSTHROUGH), gpu("a", 1, Mode.PASSTHROUGH, model="T4", resource_name=other))
    both = vm("s", claims=(DeviceClaim(RESOURCE, 1), DeviceClaim(other, 1)), **STRANGER)
    view = snapshot(node("a", "", gpus=gpus), vms=(both,))
    assert admitted(view) == ["s"]
    assert admitted(replace(view, reservations=(reservation(1),))) == []


@pytest.mark.parametrize(
    ("opens_in", "modes", "phase", "ok", "reason"),
    [
        (9 * HOUR, "p", ReservationPhase.PENDING, True, Reason.RESERVATION_PENDING),
        (300, "p", ReservationPhase.PENDING, True, Reason.RESERVATION_READY),
        (0, "p", ReservationPhase.ACTIVE, True, Reason.RESERVATION_READY),
        (0, "s", ReservationPhase.ACTIVE, False, Reason.RESERVATION_SHORT),
        (-2 * HOUR, "p", ReservationPhase.EXPIRED, True, Reason.RESERVATION_OVER),
        (0, "", ReservationPhase.REFUSED, False, Reason.AT_MAXIMUM),
    ],
)
def test_status_says_where_it_stands(
    opens_in: float, modes: str, phase: ReservationPhase, ok: bool, reason: Reason
) -> None:
    found = state(snapshot(node("a", modes), reservations=(reservation(1, opens_in=opens_in),)))
    assert (found.phase, found.ok, found.reason) == (phase, ok, reason)


def test_of_two_that_conflict_the_one_made_first_is_promised() -> None:
    first = reservation(2, name="first", created_at=2.0)
    second = reservation(1, name="second", created_at=1.0)
    both = decide(snapshot(node("a", "pp"), reservations=(first, second))).reservations
    assert [(s.name, s.phase) for s in both] == [
        ("first", ReservationPhase.REFUSED),
        ("second", ReservationPhase.ACTIVE),
    ]


def test_the_quota_of_its_namespace_bounds_a_reservation() -> None:
    limit = pool(quotas=(Quota("desktops", 1),))
    view = snapshot(node("a", "ss"), pools=(limit,), reservations=(reservation(2),))
    assert (state(view).phase, state(view).reason) == (ReservationPhase.REFUSED, Reason.QUOTA_EXCEEDED)
    assert decide(view).empty


def test_of_a_course_the_next_window_counts() -> None:
    windows = tuple(Window(NOW + day * 86_400.0 - HOUR, NOW + day * 86_400.0) for day in range(3))
    found = state(snapshot(node("a", "p"), reservations=(reservation(1, windows=windows),)))
    assert (found.phase, found.window) == (ReservationPhase.PENDING, windows[1])


def shared(gpus: int, **over: Any) -> Reservation:
    return reservation(gpus, mode=Mode.SHARED, **over)


def test_cards_are_kept_for_containers_of_holders_the_emptiest_first_and_the_same_ones_again() -> None:
    stranger = pod("x", ("a", 0), cores=10)
    view = snapshot(node("a", "sss"), pods=(stranger,), reservations=(shared(1),))
    assert state(view).cards == (("a", "GPU-a-1"),)
    again = replace(view, reservations=(shared(1, cards=(GpuUuid("GPU-a-2"),)),))
    assert state(again).cards == (("a", "GPU-a-2"),)


def test_a_card_with_a_strangers_slice_is_not_ready_and_one_with_a_holders_is() -> None:
    holder, stranger = pod("h", ("a", 0), namespace="desktops"), pod("x", ("a", 1))
    view = snapshot(node("a", "ss"), pods=(holder, stranger), reservations=(shared(2),))
    assert (state(view).ready, state(view).used, state(view).reason) == (1, 1, Reason.RESERVATION_SHORT)


def test_pods_of_others_find_no_room_on_kept_cards_and_holders_do() -> None:
    view = snapshot(
        node("a", "s"), pods=(pod("x"), pod("h", namespace="desktops")), reservations=(shared(1),)
    )
    assert answer_to(view, "h")[0] is Reason.FREE_CAPACITY
    assert answer_to(view, "x")[0] is Reason.NO_CANDIDATE


def test_a_kept_card_stays_shared_for_whatever_machine_waits() -> None:
    view = snapshot(node("a", "ss"), vms=(vm("v", gpus=2),), reservations=(shared(1),))
    assert decide(view).empty
    assert [m.pci_address for m in decide(replace(view, vms=(vm("v"),))).moves] == ["0000:01:00.0"]
