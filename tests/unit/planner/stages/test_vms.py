"""Waiting VMs: in which order they are served, and at what price."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.eligibility import RESTART_SECONDS
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.headroom import Headroom
from tests.unit.planner.builders import NOW, node, pod, pool, snapshot, vm


def answer_to(plan: Plan, name: str) -> tuple[Reason, str]:
    [said] = [
        (r.reason, r.message)
        for r in plan.refusals
        if r.subject.kind is SubjectKind.VM and r.subject.name == name
    ]
    return said


def test_who_waits_longest_is_first_whenever_it_was_created() -> None:
    """One that ran before, and began to wait again only now, comes after one that has waited all the time."""
    restarted = vm("a-restarted", created_at=100.0, waiting_since=NOW - 10.0)
    new = vm("b-new", created_at=NOW - 60.0, waiting_since=NOW - 60.0)
    plan = PoolPlanner().decide(snapshot(node("a", "s"), vms=(restarted, new)), None).plan
    assert answer_to(plan, "b-new")[0] is Reason.MOVE_UNDER_WAY
    assert answer_to(plan, "a-restarted")[0] is not Reason.MOVE_UNDER_WAY


def test_a_gpu_of_a_vm_that_is_bound_and_not_reported_yet_is_not_free_for_the_next() -> None:
    bound = replace(vm("bound"), node=NodeName("a"), waiting_since=None)
    view = snapshot(node("a", "p"), node("b", "s"), vms=(bound, vm("waits")))
    plan = PoolPlanner().decide(view, None).plan
    assert answer_to(plan, "waits")[0] is Reason.MOVE_UNDER_WAY
    assert [move.node for move in plan.moves] == ["b"]


class Price:
    """A sizer that allows 2,000 GPU-seconds at once and 2 more for each second that a VM waits."""

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        headroom = Headroom(
            0, 0, Reason.HEADROOM, "for a test", work_at_once=2_000.0, work_per_second_waited=2.0
        )
        return dict.fromkeys(inventory.groups, headroom), None


@pytest.mark.parametrize(("age", "evicted"), [(400.0, True), (401.0, False), (2_000.0, False)])
def test_no_more_work_is_thrown_away_than_the_wait_is_worth(age: float, evicted: bool) -> None:
    """A pod on a whole GPU loses its age and what starting again costs; the VM has waited 100 s."""
    assert RESTART_SECONDS + 400.0 == 2_000.0 + 2.0 * 100.0
    soft = pod("soft", ("a", 0), cores=100, started_at=NOW - age, best_effort=True, evictable=True)
    waits = vm("v", waiting_since=NOW - 100.0)
    view = snapshot(
        node("a", "s"), vms=(waits,), pods=(soft,), pools=(pool(eviction=EvictionRule.BEST_EFFORT),)
    )
    plan = PoolPlanner(Price()).decide(view, None).plan
    assert bool(plan.moves) is evicted
    assert answer_to(plan, "v")[0] is (Reason.MOVE_UNDER_WAY if evicted else Reason.EVICTION_NOT_YET)


def test_the_youngest_work_is_evicted_even_where_that_breaks_a_larger_hole() -> None:
    ages = (("a", 0, 900.0), ("b", 0, 30.0), ("b", 1, 30.0))
    pods = tuple(
        pod(f"{name}{n}", (name, n), cores=100, started_at=NOW - age, best_effort=True, evictable=True)
        for name, n, age in ages
    )
    rule = pool(eviction=EvictionRule.BEST_EFFORT)
    view = snapshot(node("a", "s"), node("b", "ss"), vms=(vm("v"),), pods=pods, pools=(rule,))
    [move] = PoolPlanner().decide(view, None).plan.moves
    assert move.node == "b"


def test_nobody_is_evicted_for_a_vm_that_has_no_launcher_yet() -> None:
    """A ResourceQuota or a policy may refuse the launcher for ever: pods of others would end for nobody."""
    soft = pod("soft", ("a", 0), cores=100, best_effort=True, evictable=True)
    rule = pool(eviction=EvictionRule.BEST_EFFORT)
    waits = vm("v")
    for launcher, evicted in (("", ()), (waits.launcher_uid, (soft.uid,))):
        view = snapshot(
            node("a", "s"), vms=(replace(waits, launcher_uid=launcher),), pods=(soft,), pools=(rule,)
        )
        plan = PoolPlanner().decide(view, None).plan
        assert tuple(uid for move in plan.moves for uid in move.evict) == evicted
        assert answer_to(plan, "v")[0] is (Reason.MOVE_UNDER_WAY if launcher else Reason.EVICTION_NOT_YET)
    idle = snapshot(node("a", "s"), vms=(replace(waits, launcher_uid=""),), pools=(rule,))
    assert len(PoolPlanner().decide(idle, None).plan.moves) == 1
