"""Quotas count whatever a namespace may come to hold, of every kind, and each waiting workload has its turn."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.domain.demand import DeviceClaim, Gate
from poolmgr.domain.fleet import Pool, Quota
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Placement
from poolmgr.domain.plan import Plan, QuotaUse, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import RESOURCE, gpu, node, pod, pool, snapshot, vm

H100, H100_RESOURCE = "NVIDIA H100", "nvidia.com/GH100"


def decide(view: ClusterSnapshot) -> Plan:
    return PoolPlanner().decide(view, None).plan


def limited(max_gpus: float | None, **overrides: Any) -> Pool:
    return pool(quotas=(Quota("desktops", max_gpus),), **overrides)


def reasons(plan: Plan) -> dict[str, Reason]:
    return {r.subject.name: r.reason for r in plan.refusals if r.subject.kind.value != "GPU"}


def use(plan: Plan, namespace: str = "desktops") -> QuotaUse:
    return next(u for u in plan.quota_uses if u.namespace == namespace)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_pod_counts_in_the_pool_of_its_own_node_where_two_nodes_report_its_uuid(
    order: tuple[str, str],
) -> None:
    pools = (limited(5.0), limited(5.0, name=PoolName("q")))
    card, twin = gpu("a", 0), replace(gpu("b", 0), pool=PoolName("q"), uuid=gpu("a", 0).uuid)
    there = {"a": node("a", "", gpus=(card,)), "b": node("b", "", gpus=(twin,))}
    runs = pod("runs", on=("a", 0), cores=100, namespace="desktops")
    plan = decide(snapshot(*(there[name] for name in order), pods=(runs,), pools=pools))
    assert {u.pool: u.used for u in plan.quota_uses} == {"p": 1.0, "q": 0.0}


def test_what_runs_and_what_is_admitted_count_and_what_is_gated_waits() -> None:
    vms = (
        vm("runs", on=("a", 0)),
        vm("admitted"),
        vm("gated", gate=Gate.OURS),
        vm("unborn", launcher_uid=""),
    )
    held = pod("slice", ("a", 1), cores=50, namespace="desktops")
    plan = decide(snapshot(node("a", "psss"), vms=vms, pods=(held,), pools=(limited(9),)))
    assert use(plan) == QuotaUse(PoolName("p"), "desktops", 9, 1.0, used=2.5, waiting=2.0)


def test_every_kind_of_gpu_that_a_machine_asks_for_counts() -> None:
    both = (DeviceClaim(RESOURCE, 1), DeviceClaim(H100_RESOURCE, 2))
    h100 = [gpu("a", n, Mode.SHARED, model=H100, resource_name=H100_RESOURCE) for n in (1, 2)]
    view = snapshot(
        node("a", "", gpus=(gpu("a", 0), *h100)), vms=(vm("v", claims=both),), pools=(limited(2),)
    )
    plan = decide(view)
    assert plan.empty
    assert reasons(plan) == {"v": Reason.QUOTA_EXCEEDED}
    assert not decide(snapshot(*view.nodes, vms=view.vms, pools=(limited(3),))).empty


def test_devices_that_no_agent_has_reported_count_in_the_pool_of_the_node() -> None:
    bound = vm("bound", gpus=2, node=node("a", "").name)
    view = snapshot(node("a", "pp"), vms=(bound,), pools=(limited(2),))
    assert use(decide(view)).used == 2.0


def test_who_may_land_in_either_of_two_pools_counts_in_both_until_it_runs() -> None:
    pools = (
        pool(name=PoolName("p"), quotas=(Quota("desktops", 5),)),
        pool(name=PoolName("q"), quotas=(Quota("desktops", 0),), created_at=1.0),
    )
    nodes = (
        node("a", "s", labels=(("zone", "1"),)),
        node("b", "", gpus=(gpu("b", 0, pool=PoolName("q")),), labels=(("zone", "2"),)),
    )
    anywhere, first = vm("anywhere"), vm("first", placement=Placement(selector=(("zone", "1"),)))
    plan = decide(snapshot(*nodes, vms=(anywhere, first), pools=pools))
    assert reasons(plan) == {"anywhere": Reason.QUOTA_EXCEEDED, "first": Reason.MOVE_UNDER_WAY}
    assert {(u.pool, u.used) for u in plan.quota_uses} == {("p", 2.0), ("q", 1.0)}


def test_a_pod_counts_by_the_card_of_which_it_takes_the_largest_part() -> None:
    small = gpu("b", 0, model="NVIDIA A2", memory_mib=12_000, resource_name="nvidia.com/A2")
    nodes = (node("a", "s"), node("b", "", gpus=(small,)))
    waits = pod("w", memory_mib=12_000, cores_percent=10, namespace="desktops", gate=Gate.OURS)
    assert use(decide(snapshot(*nodes, pods=(waits,), pools=(limited(9),)))).waiting == 1.0


def test_a_pod_that_asks_for_an_accelerator_of_another_kind_takes_nothing() -> None:
    mig = pod("mig", namespace="desktops", servable=Verdict(False, Reason.UNSERVED_RESOURCE, "MIG"))
    assert use(decide(snapshot(node("a", "s"), pods=(mig,), pools=(limited(9),)))).used == 0.0


def test_over_the_quota_nothing_moves_and_the_sentence_has_the_numbers() -> None:
    vms = (vm("runs", on=("a", 0)), vm("waits", gate=Gate.OURS))
    plan = decide(snapshot(node("a", "ps"), vms=vms, pools=(limited(1),)))
    assert plan.empty
    (said,) = [r.message for r in plan.refusals if r.subject.name == "waits"]
    assert said == "it would take namespace desktops over its quota of 1 GPU(s) in pool p"


def test_no_idle_gpu_goes_over_for_a_pod_that_is_over_its_quota() -> None:
    waits = pod("w", cores=100, namespace="desktops", gate=Gate.OURS)
    view = snapshot(node("a", "p"), pods=(waits,), pools=(limited(0.5, cooldown_seconds=0),))
    assert decide(view).empty
    assert reasons(decide(view)) == {"w": Reason.QUOTA_EXCEEDED}
    assert not decide(snapshot(*view.nodes, pods=view.pods, pools=(limited(1, cooldown_seconds=0),))).empty


def test_pods_and_machines_take_turns_by_what_the_namespace_holds_for_its_weight() -> None:
    weights = pool(quotas=(Quota("big", weight=2.0), Quota("small", max_gpus=2)))
    vms = tuple(vm(f"{ns}-{n}", namespace=ns) for ns in ("big", "small") for n in range(3))
    plan = decide(snapshot(node("a", "sss"), node("b", "sss"), vms=vms, pools=(weights,)))
    assert [r.subject.name for r in plan.refusals if r.subject.name in {v.name for v in vms}] == [
        "big-0",
        "big-1",
        "small-0",
        "big-2",
        "small-1",
        "small-2",
    ]
    assert reasons(plan)["small-2"] is Reason.QUOTA_EXCEEDED


def test_a_namespace_that_the_pool_does_not_name_has_no_limit() -> None:
    plan = decide(snapshot(node("a", "s"), vms=(vm("v", namespace="other"),), pools=(limited(0),)))
    assert reasons(plan) == {"v": Reason.MOVE_UNDER_WAY}


def test_without_quotas_nothing_is_counted_or_told() -> None:
    assert decide(snapshot(node("a", "s"), vms=(vm("v"),))).quota_uses == ()
