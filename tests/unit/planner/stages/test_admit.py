"""Who waits behind our gate goes on in turn: within the quota at once, and where it matters who is next, once there is room."""

from dataclasses import replace
from typing import Any

from poolmgr.domain.demand import Gate
from poolmgr.domain.fleet import Pool, Quota
from poolmgr.domain.plan import SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.shared_fit import ONE_AT_A_TIME
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import node, pod, pool, snapshot, vm

GATED: dict[str, Any] = {"gate": Gate.OURS}


def admitted(view: ClusterSnapshot) -> list[str]:
    return [a.subject.name for a in PoolPlanner(explain=False).decide(view, None).plan.admissions]


def limited(gpus: float) -> Pool:
    return pool(quotas=(Quota("desktops", gpus), Quota("notebooks", gpus)))


def test_within_the_limit_a_machine_goes_on_though_no_gpu_is_free_yet() -> None:
    vms = tuple(vm(name, launcher_name=f"virt-launcher-{name}", **GATED) for name in ("a", "b", "c"))
    plan = PoolPlanner().decide(snapshot(node("n", "sss"), vms=vms, pools=(limited(2),)), None).plan
    assert [(a.subject.kind, a.pod, a.pod_name) for a in plan.admissions] == [
        (SubjectKind.VM, "launcher-a", "virt-launcher-a"),
        (SubjectKind.VM, "launcher-b", "virt-launcher-b"),
    ]
    assert next(r.reason for r in plan.refusals if r.subject.name == "c") is Reason.QUOTA_EXCEEDED


def test_what_runs_and_what_went_on_before_count() -> None:
    vms = (vm("runs", on=("n", 0)), vm("before"), vm("next", **GATED))
    assert admitted(snapshot(node("n", "pss"), vms=vms, pools=(limited(2),))) == []
    assert admitted(snapshot(node("n", "pss"), vms=vms, pools=(limited(3),))) == ["next"]


def test_pods_and_machines_of_a_namespace_share_its_limit() -> None:
    mine = pod("p", cores=50, namespace="desktops", created_at=50.0, waiting_since=50.0, **GATED)
    view = snapshot(node("n", "ss"), vms=(vm("v", **GATED),), pods=(mine,), pools=(limited(1.4),))
    assert admitted(view) == ["p"]
    assert admitted(replace(view, pools=(limited(1.5),))) == ["p", "v"]


def test_a_gate_that_nothing_asks_for_any_more_is_lifted() -> None:
    view = snapshot(node("n", "s"), vms=(vm("v", **GATED),), pods=(pod("p", **GATED),))
    assert admitted(view) == ["v", "p"]


def test_who_is_held_back_by_somebody_else_is_neither_admitted_nor_counted() -> None:
    held = Verdict(False, Reason.LACKS_SOMETHING_ELSE, "it is held back by the scheduling gate kueue")
    others = pod("others", cores=100, gate=Gate.OTHERS, servable=held)
    view = snapshot(node("n", "s"), pods=(others, pod("ours", cores=100, **GATED)), pools=(limited(1),))
    assert admitted(view) == ["ours"]


def test_what_no_gpu_of_ours_would_let_run_is_not_held_for_want_of_room() -> None:
    """It waits for another scheduler, which may give it slices all the same."""
    other = Verdict(False, Reason.LACKS_SOMETHING_ELSE, "it waits for the scheduler volcano")
    weights = pool(quotas=(Quota("notebooks", weight=2.0),))
    full = pod("full", ("n", 0), cores=100)
    view = snapshot(node("n", "s"), pods=(full, pod("p", servable=other, **GATED)), pools=(weights,))
    assert admitted(view) == ["p"]


def test_where_weights_say_who_is_next_nobody_goes_on_before_there_is_room() -> None:
    weights = pool(quotas=(Quota("big", weight=3.0),))
    vms = tuple(vm(f"{ns}-{n}", namespace=ns, **GATED) for ns in ("big", "small") for n in range(3))
    waiting = snapshot(node("n", "ss"), vms=vms, pools=(weights,))
    assert admitted(waiting) == []
    assert admitted(replace(waiting, nodes=(node("n", "pp"),))) == ["big-0", "big-1"]
    assert admitted(replace(waiting, nodes=(node("n", "pppp"),))) == ["big-0", "big-1", "big-2", "small-0"]


def test_pods_of_different_sizes_take_turns_by_weight() -> None:
    weights = pool(quotas=(Quota("big", weight=2.0),))
    small = [pod(f"s{n}", cores=30, namespace="small", created_at=10.0 + n, **GATED) for n in range(4)]
    big = [pod(f"b{n}", cores=36, namespace="big", created_at=50.0 + n, **GATED) for n in range(4)]
    view = snapshot(node("n", "ss"), pods=(*small, *big), pools=(weights,))
    assert admitted(view)[:4] == ["b0", "s0", "b1", "b2"]


def test_of_very_many_the_rest_is_placed_by_shape_and_never_beyond_the_room() -> None:
    weights = pool(quotas=(Quota("big", weight=2.0),))
    slots = 10 * 52
    pods = tuple(
        pod(f"p{n:03}", cores=1, created_at=float(n), waiting_since=float(n), **GATED)
        for n in range(slots + 5)
    )
    assert slots > ONE_AT_A_TIME
    expected = [p.name for p in pods[:slots]]
    assert admitted(snapshot(node("n", "s" * 52), pods=pods, pools=(weights,))) == expected


def test_who_went_on_before_has_the_room_before_those_behind_the_gate() -> None:
    weights = pool(quotas=(Quota("big", weight=2.0),))
    before, behind = pod("before", cores=100, created_at=900.0), pod("behind", cores=100, **GATED)
    view = snapshot(node("n", "s"), pods=(before, behind), pools=(weights,))
    assert admitted(view) == []
    assert admitted(replace(view, nodes=(node("n", "ss"),))) == ["behind"]
