"""A pool in Recommend mode: its moves are in the plan, marked, and nobody who waits is told that they are made."""

from dataclasses import replace

import pytest

from poolmgr.domain.fleet import EvictionRule, Pool, RebalanceMode
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import gpu, node, pod, pool, snapshot, vm

RECOMMEND = pool(rebalance=RebalanceMode.RECOMMEND, cooldown_seconds=0)
OTHER = PoolName("other")


def decide(view: ClusterSnapshot) -> Plan:
    return PoolPlanner().decide(view, None).plan


def answer_to(plan: Plan, kind: SubjectKind, name: str) -> tuple[Reason, str]:
    return next(
        (r.reason, r.message) for r in plan.refusals if r.subject.kind is kind and r.subject.name == name
    )


def test_a_vm_hears_that_its_move_is_recommended_and_not_made() -> None:
    plan = decide(snapshot(node("a", "s"), vms=(vm("desk"),), pools=(RECOMMEND,)))
    assert [(m.node, m.recommended) for m in plan.moves] == [("a", True)]
    assert plan.to_start == ()
    reason, message = answer_to(plan, SubjectKind.VM, "desk")
    assert reason is Reason.RECOMMEND_ONLY
    assert "1 GPU(s) on a" in message and "pool p is in Recommend mode" in message
    about = Subject(SubjectKind.GPU, "a", gpu("a", 0).pci_address)
    [gpu_is_told] = [r for r in plan.refusals if r.subject == about]
    assert gpu_is_told.reason is Reason.RECOMMEND_ONLY
    assert gpu_is_told.message.startswith("a move to Passthrough")


def test_a_pod_hears_the_same_of_a_gpu_that_would_come_back() -> None:
    plan = decide(snapshot(node("a", "p"), pods=(pod("job", cores=100),), pools=(RECOMMEND,)))
    assert [m.recommended for m in plan.moves] == [True]
    reason, message = answer_to(plan, SubjectKind.POD, "job")
    assert reason is Reason.RECOMMEND_ONLY
    assert "pool p is in Recommend mode" in message


def test_of_two_pods_the_second_is_not_promised_the_gpu_of_the_first() -> None:
    pods = (pod("first", cores=100, created_at=1.0), pod("second", cores=100, created_at=2.0))
    plan = decide(snapshot(node("a", "p"), pods=pods, pools=(RECOMMEND,)))
    assert answer_to(plan, SubjectKind.POD, "first")[0] is Reason.RECOMMEND_ONLY
    assert answer_to(plan, SubjectKind.POD, "second")[0] is not Reason.RECOMMEND_ONLY


def test_a_free_gpu_of_the_pool_is_told_as_free() -> None:
    plan = decide(snapshot(node("a", "p"), vms=(vm("desk"),), pools=(RECOMMEND,)))
    assert plan.moves == ()
    assert answer_to(plan, SubjectKind.VM, "desk")[0] is Reason.FREE_CAPACITY


def of_other(name: str, modes: str) -> object:
    made = node(name, modes)
    return replace(made, gpus=tuple(replace(g, pool=OTHER) for g in made.gpus))


@pytest.mark.parametrize("eviction", [False, True])
def test_an_automatic_pool_serves_before_one_that_only_recommends(eviction: bool) -> None:
    automatic = Pool(OTHER, max_in_flight=100, eviction=EvictionRule.BEST_EFFORT)
    pods = (pod("soft", on=("b", 0), best_effort=True, evictable=True),) if eviction else ()
    view = snapshot(
        node("a", "s"), of_other("b", "s"), vms=(vm("desk"),), pods=pods, pools=(RECOMMEND, automatic)
    )
    plan = decide(view)
    assert [(m.node, m.recommended) for m in plan.moves] == [("b", False)]
    assert answer_to(plan, SubjectKind.VM, "desk")[0] is Reason.MOVE_UNDER_WAY


def test_a_vm_that_only_a_recommended_move_can_serve_hears_of_it_though_another_pool_is_automatic() -> None:
    view = snapshot(
        node("a", "s"),
        of_other("b", "s"),
        vms=(vm("desk"),),
        pods=(pod("firm", on=("b", 0)),),
        pools=(RECOMMEND, Pool(OTHER, max_in_flight=100)),
    )
    plan = decide(view)
    assert [(m.node, m.recommended) for m in plan.moves] == [("a", True)]
    assert answer_to(plan, SubjectKind.VM, "desk")[0] is Reason.RECOMMEND_ONLY
