"""Lending nodes to best-effort containers: only where VMs are expected, never where the pool forbids eviction."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.fleet import EvictionRule, RebalanceMode
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.headroom import Headroom
from tests.unit.planner.builders import NOW, gpu, node, pod, pool, snapshot, vm

HOUR = 3_600.0
LENDS = pool(eviction=EvictionRule.BEST_EFFORT)


class Expects:
    """A sizer that expects so many GPUs to be wanted, by seconds from now."""

    def __init__(self, *looks: tuple[float, int]) -> None:
        self._looks = looks

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        said = "VMs come at nine"
        return {
            key: Headroom(0, 0, Reason.HEADROOM, said, lend=self._looks) for key in inventory.groups
        }, None


def lent(view: ClusterSnapshot, *looks: tuple[float, int]) -> set[str]:
    return set(plan_of(view, *looks).best_effort_only)


def plan_of(view: ClusterSnapshot, *looks: tuple[float, int]) -> Plan:
    return PoolPlanner(Expects(*looks)).decide(view, None).plan


def old(name: str, on: tuple[str, int], **fields: Any) -> Any:
    """A pod that has run for two days and may not be evicted: it will not end today."""
    return pod(name, on, cores=100, started_at=NOW - 48 * HOUR, **fields)


def cluster(*names: str, **fields: Any) -> ClusterSnapshot:
    """Nodes of two shared GPUs, all full of pods that have just begun."""
    young = tuple(pod(f"{n}{g}", (n, g), cores=100, started_at=NOW - 60) for n in names for g in (0, 1))
    fields = {"pods": young, "pools": (LENDS,), **fields}
    return snapshot(*(node(n, "ss") for n in names), **fields)


def test_nothing_is_lent_where_nobody_is_expected() -> None:
    assert lent(cluster("a", "b")) == set()
    assert lent(cluster("a", "b"), (900.0, 0), (HOUR, 0)) == set()


def test_nothing_is_lent_while_enough_gpus_are_free() -> None:
    view = cluster("a", "b")
    view = replace(view, nodes=(*view.nodes, node("c", "pp")))
    assert lent(view, (900.0, 2), (HOUR, 2)) == set()


def test_nothing_is_lent_for_later_while_plenty_will_fall_free_by_itself() -> None:
    assert lent(cluster("a", "b", "c", "d"), (900.0, 0), (4 * HOUR, 2)) == set()


def test_as_many_nodes_are_lent_as_are_wanted_and_those_first_that_will_be_free() -> None:
    view = cluster("a", "b", "c", "d", "e", "f")
    kept = tuple(p for p in view.pods if p.node != "a")
    view = replace(view, pods=(old("x", ("a", 0)), old("y", ("a", 1)), *kept))
    assert lent(view, (900.0, 0), (4 * HOUR, 8)) == {"b", "c", "d", "e", "f"}


def waits(name: str, cores: int) -> Any:
    return pod(name, cores=cores, best_effort=True, evictable=True)


@pytest.mark.parametrize(
    ("waiting", "is_lent", "expected"),
    [
        ((), False, set()),
        ((waits("w", 100),), False, {"a", "b", "c"}),
        ((pod("ordinary", cores=100),), False, set()),
        ((waits("w", 10),), False, set()),
        ((waits("w", 10),), True, {"a", "b", "c"}),
        ((), True, set()),
    ],
    ids=["nobody", "a card", "somebody else", "a little", "a little, lent already", "nobody any more"],
)
def test_for_later_than_pods_run_nodes_are_lent_only_while_best_effort_pods_wait(
    waiting: tuple[Any, ...], is_lent: bool, expected: set[str]
) -> None:
    view = cluster("a", "b", "c")
    view = replace(
        view,
        pods=(*view.pods, *waiting),
        nodes=tuple(replace(n, best_effort_only=is_lent) for n in view.nodes),
    )
    assert lent(view, (900.0, 0), (6 * HOUR, 6)) == expected
    assert lent(view, (900.0, 0), (4 * HOUR, 6)) == {"a", "b", "c"}


def test_what_best_effort_pods_use_counts_as_free_for_vms() -> None:
    evictable = tuple(old(f"e{g}", ("a", g), best_effort=True, evictable=True) for g in (0, 1))
    kept = (old("x", ("b", 0)), old("y", ("b", 1)))
    view = cluster("a", "b", pods=(*evictable, *kept))
    assert lent(view, (900.0, 2), (4 * HOUR, 2)) == {"a"}


def test_a_lent_node_stays_lent_until_clearly_more_is_there_than_wanted() -> None:
    view = cluster("a", "b", "c")
    view = replace(view, nodes=tuple(replace(n, best_effort_only=n.name == "c") for n in view.nodes))
    looks = ((900.0, 0), (4 * HOUR, 4))
    assert "c" in lent(view, *looks)
    assert lent(replace(view, nodes=(*view.nodes, node("d", "pppppp"))), *looks) == set()


@pytest.mark.parametrize(
    "not_ours",
    [pool(eviction=EvictionRule.NEVER), replace(LENDS, rebalance=RebalanceMode.RECOMMEND)],
)
def test_nodes_of_a_pool_that_forbids_it_are_never_lent(not_ours: Any) -> None:
    assert lent(cluster("a", "b", pools=(not_ours,)), (900.0, 4), (HOUR, 4)) == set()


def test_a_node_with_a_gpu_of_no_pool_is_never_lent() -> None:
    view = cluster("a", "b")
    first, second = view.nodes
    stray = replace(first, gpus=(*first.gpus, gpu("a", 2, pool=None)))
    assert lent(replace(view, nodes=(stray, second)), (900.0, 4)) == {"b"}


def test_an_unsynced_view_alters_nothing() -> None:
    view = cluster("a", "b", synced=False)
    view = replace(view, nodes=tuple(replace(n, best_effort_only=n.name == "b") for n in view.nodes))
    assert lent(view, (900.0, 4)) == {"b"}


def test_a_lent_node_says_why() -> None:
    plan = plan_of(cluster("a", "b"), (900.0, 4), (HOUR, 4))
    said = {r.subject.name: r for r in plan.refusals if r.subject.kind is SubjectKind.NODE}
    assert set(said) == plan.best_effort_only
    assert all(
        r.reason is Reason.LENT_TO_BEST_EFFORT and "VMs come at nine" in r.message for r in said.values()
    )


def test_a_waiting_pod_that_only_lent_nodes_have_room_for_is_told_so() -> None:
    view = snapshot(replace(node("a", "ss"), best_effort_only=True), pods=(pod("w"),), pools=(LENDS,))
    [said] = [r for r in plan_of(view).refusals if r.subject.kind is SubjectKind.POD]
    assert said.reason is Reason.LENT_TO_BEST_EFFORT
    assert 'poolmgr.io/best-effort: "true"' in said.message


def test_a_best_effort_pod_fits_on_a_lent_node() -> None:
    view = snapshot(
        replace(node("a", "ss"), best_effort_only=True), pods=(pod("w", best_effort=True),), pools=(LENDS,)
    )
    [said] = [r for r in plan_of(view).refusals if r.subject.kind is SubjectKind.POD]
    assert said.reason is Reason.FREE_CAPACITY


@given(
    ages=st.lists(st.floats(0, 200 * HOUR), min_size=1, max_size=12),
    effort=st.lists(st.booleans(), min_size=12, max_size=12),
    wanted=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    was=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_lending_moves_and_evicts_nothing(
    ages: list[float], effort: list[bool], wanted: list[int], was: list[bool]
) -> None:
    names = [f"n{n:02d}" for n in range(len(ages))]
    pods = tuple(
        pod(name, (name, 0), cores=100, started_at=NOW - age, best_effort=b, evictable=b)
        for name, age, b in zip(names, ages, effort, strict=False)
    )
    nodes = tuple(replace(node(n, "ss"), best_effort_only=w) for n, w in zip(names, was, strict=False))
    looks = tuple((900.0 * (n + 1), gpus) for n, gpus in enumerate(wanted))
    plan = plan_of(snapshot(*nodes, pods=pods, pools=(LENDS,)), *looks)
    assert not plan.moves
    assert plan.best_effort_only <= set(names)
    assert plan_of(snapshot(*nodes, pods=pods, pools=(LENDS,)), *looks) == plan
    if max(wanted) == 0:
        assert not plan.best_effort_only


def test_a_vm_takes_a_lent_gpu_from_best_effort_pods_at_once() -> None:
    begun = pod("b", ("a", 0), cores=100, started_at=NOW - 60, best_effort=True, evictable=True)
    lent_node = replace(node("a", "s"), best_effort_only=True)
    view = snapshot(lent_node, pods=(begun,), vms=(vm("v", waiting_since=NOW),), pools=(LENDS,))
    plan = plan_of(view, (900.0, 1))
    [move] = plan.moves or pytest.fail(str(plan.refusals))
    assert move.evict == (begun.uid,)
