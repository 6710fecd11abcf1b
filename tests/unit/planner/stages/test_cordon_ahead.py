"""GPUs in use that are closed for VMs which come within minutes: few, only while too few are free, nobody disturbed."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.cordon_ahead import SOON_SHARE
from tests.unit.planner.builders import NOW, node, pod, pool, snapshot

EVICTS = pool(eviction=EvictionRule.BEST_EFFORT, max_in_flight=100)
NAMES = tuple("abcdefghij")


class ExpectsSoon:
    """A sizer that expects so many VMs within minutes."""

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        return {
            k: Headroom(0, 0, Reason.HEADROOM, "VMs come", soon=self._gpus) for k in inventory.groups
        }, None


def plan_of(view: ClusterSnapshot, soon: int) -> Plan:
    return PoolPlanner(ExpectsSoon(soon)).decide(view, None).plan


def cluster(*free: str, age: float = 30.0) -> ClusterSnapshot:
    """Ten nodes of two shared GPUs, each with a best-effort pod of that age; `free` are nodes of one free GPU."""
    pods = tuple(
        pod(f"{n}{g}", (n, g), cores=100, started_at=NOW - age, best_effort=True, evictable=True)
        for n in NAMES
        for g in (0, 1)
    )
    nodes = (*(node(n, "ss") for n in NAMES), *(node(n, "p") for n in free))
    return snapshot(*nodes, pods=pods, pools=(EVICTS,))


def test_gpus_are_closed_until_enough_will_fall_free_and_nobody_is_disturbed() -> None:
    plan = plan_of(cluster(), soon=1)
    assert len({move.node for move in plan.moves}) == 1
    assert all(move.wait_for and not move.evict for move in plan.moves)
    assert "is closed to new pods and moves when its 1 pod(s) have ended" in plan.moves[0].message
    assert len({move.node for move in plan_of(cluster(), soon=2).moves}) > 1


def test_nothing_is_closed_while_enough_gpus_are_free_or_nobody_is_expected() -> None:
    assert plan_of(cluster("y", "z"), soon=2).moves == ()
    assert plan_of(cluster(), soon=0).moves == ()


def test_most_nodes_stay_open_for_vms_that_come_at_once() -> None:
    nodes = {move.node for move in plan_of(cluster(), soon=50).moves}
    assert len(nodes) == int(SOON_SHARE * len(NAMES))


@pytest.mark.parametrize(("age", "closes"), [(30.0, True), (5 * 86_400.0, False)])
def test_a_gpu_whose_pods_will_not_end_so_soon_is_not_closed(age: float, closes: bool) -> None:
    assert bool(plan_of(cluster(age=age), soon=1).moves) is closes


def test_a_pool_without_a_place_to_close_gpus_in_gives_no_waiting_pod_that_as_its_reason() -> None:
    full = cluster()
    alone = replace(full, pools=(replace(EVICTS, max_in_flight=1),), pods=(*full.pods, pod("w", cores=100)))
    plan = plan_of(alone, soon=2)
    assert plan.moves == ()
    [said] = [r for r in plan.refusals if r.subject.name == "w"]
    assert said.reason is Reason.NO_CANDIDATE
