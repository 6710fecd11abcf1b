"""The inventory and its cache of nodes: the cache may save time and may not alter an answer."""

from dataclasses import replace

import pytest

from bench.speed.planner import random_cluster
from poolmgr.domain.backoff import WHOLE_NODE, Backoff, Disturbance
from poolmgr.domain.demand import Slice
from poolmgr.domain.fleet import Holder, Node
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.budgets import budgets_of
from poolmgr.planner.inventory.cache import InventoryCache
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.plan import STAGES, PoolPlanner
from poolmgr.planner.sizing.headroom import Headroom, HeadroomSizer
from poolmgr.planner.stages.state import PlanState, Stage
from tests.unit.planner.builders import pod


def without_every_third_workload(view: ClusterSnapshot, offset: int) -> ClusterSnapshot:
    vms = tuple(vm for n, vm in enumerate(view.vms) if (n + offset) % 3)
    pods = tuple(pod for n, pod in enumerate(view.pods) if (n + offset) % 3)
    return replace(view, vms=vms, pods=pods)


def test_planner_with_a_cache_decides_as_one_that_does_not() -> None:
    view = random_cluster(nodes=24, gpus=8, pods=400, seed=3)
    caching = PoolPlanner()
    for step in range(9):
        now = without_every_third_workload(view, step)
        if step == 3:
            changed = replace(view.nodes[5], cordoned=True)
            now = replace(now, nodes=(*view.nodes[:5], changed, *view.nodes[6:]))
        if step == 4:
            now = replace(now, pools=(replace(now.pools[0], cooldown_seconds=9_999),))
        if step == 5:
            now = replace(now, nodes=now.nodes[10:])
        if step >= 6:
            # The same GPUs are in use, one decision after the other by others; and nobody carries the moves out.
            now = without_every_third_workload(view, 6)
            now = replace(now, taken_at=now.taken_at + 600.0 * step)
            names = ("first", "first", "second")
            now = replace(now, pods=tuple(replace(pod, name=names[step - 6]) for pod in now.pods))
        assert caching.decide(now, None) == PoolPlanner().decide(now, None)


def test_a_decision_takes_nothing_from_what_is_cached() -> None:
    view, cache = random_cluster(nodes=6, gpus=8, pods=60, seed=1), InventoryCache()
    inventory = build_inventory(view, usage_of(view), cache)
    state = PlanState(view, inventory, budgets_of(inventory), HeadroomSizer().size(view, inventory, None)[0])
    free = sum(group.free for group in inventory.groups.values())
    for stage in STAGES:
        state.apply(stage(state))
    assert sum(group.free for group in inventory.groups.values()) < free
    assert build_inventory(view, usage_of(view), cache) == build_inventory(view, usage_of(view))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_nothing_but_by_its_effect(stage: Stage) -> None:
    view = random_cluster(nodes=6, gpus=8, pods=60, seed=1)
    inventory, same = build_inventory(view, usage_of(view)), build_inventory(view, usage_of(view))
    headroom = {
        key: Headroom(9, 9, Reason.HEADROOM, "VMs come", soon=9, lend=((300.0, 9), (600.0, 9)))
        for key in inventory.groups
    }
    state = PlanState(view, inventory, budgets_of(inventory), headroom)
    result = stage(state)
    assert inventory == same
    assert state.budgets == budgets_of(same)
    assert not (state.moves or state.refusals or state.held_back or state.lent or state.directions)
    state.apply(result)
    assert len(state.moves) == sum(move.unit.size for move in result.moves)


def test_node_that_is_gone_is_forgotten() -> None:
    view, cache = random_cluster(nodes=9, gpus=2, pods=10, seed=1), InventoryCache()
    build_inventory(view, usage_of(view), cache)
    small = replace(view, nodes=view.nodes[:2])
    inventory = build_inventory(small, usage_of(small), cache)
    assert {name for group in inventory.groups.values() for name in group.nodes} == {
        n.name for n in small.nodes
    }
    assert len(cache) <= 4


def test_gpu_counts_as_used_by_a_vm_for_as_long_as_the_vm_is_there() -> None:
    view, cache = random_cluster(nodes=2, gpus=8, pods=0, seed=2), InventoryCache()
    held = replace(view, nodes=tuple(_without_allocation(n) for n in view.nodes))
    for now in (held, replace(held, vms=())):
        inventory = build_inventory(now, usage_of(now), cache)
        busy = sum(group.vm_busy for group in inventory.groups.values())
        assert busy == sum(
            1
            for vm in now.vms
            for name, address in vm.devices
            for node in now.nodes
            for g in node.gpus
            if (g.node, g.pci_address, g.observed_mode) == (name, address, Mode.PASSTHROUGH)
        )


def test_gpu_is_waited_for_once_its_process_is_one_of_a_pod_that_has_come() -> None:
    view, cache = random_cluster(nodes=1, gpus=1, pods=0, seed=2), InventoryCache()
    [known] = view.nodes
    there = pod("late", (known.name, 0))
    held = Holder(7, "python", there.uid)
    card = replace(
        known.gpus[0],
        observed_mode=Mode.SHARED,
        desired_mode=Mode.SHARED,
        allocated_to="",
        holders=(held,),
    )
    known = replace(known, gpus=(card,))
    other = replace(pod("other", (known.name, 0)), slices=(Slice(card.uuid, 1, 1),))
    for tenant in (other, replace(there, slices=other.slices)):
        now = replace(view, nodes=(known,), vms=(), pods=(tenant,))
        inventory = build_inventory(now, usage_of(now), cache)
        assert inventory == build_inventory(now, usage_of(now))


def test_whoever_is_not_placed_on_a_gpu_keeps_a_node_that_is_known_only_for_as_long_as_he_is_there() -> None:
    view, cache = random_cluster(nodes=6, gpus=8, pods=0, seed=2), InventoryCache()
    movable = [len(build_inventory(view, usage_of(view), cache).ineligible)]
    loose = tuple(replace(pod(f"loose{n.name}", None), node=n.name) for n in view.nodes)
    for pods in (loose, loose[:2], (), loose):
        now = replace(view, pods=pods)
        inventory = build_inventory(now, usage_of(now), cache)
        assert inventory == build_inventory(now, usage_of(now))
        movable.append(len(inventory.ineligible))
    assert movable[1] == movable[4] > movable[2] > movable[3] == movable[0]


def _without_allocation(node: Node) -> Node:
    return replace(node, gpus=tuple(replace(g, allocated_to="") for g in node.gpus))


def test_cached_nodes_cope_with_pauses_that_run_out_and_with_a_clock_that_goes_back() -> None:
    view = random_cluster(nodes=12, gpus=8, pods=100, seed=5)
    start = view.taken_at

    def resting(node: Node, n: int) -> Node:
        address = WHOLE_NODE if n % 2 else node.gpus[0].pci_address
        pause = Backoff(address, "BindFailed", "no", 1, start, start + 300.0 * (n // 2 + 1))
        cost = (Disturbance(start - 3_500.0 + 100.0 * n, 50, 60.0),) if n % 3 == 0 else ()
        return replace(node, backoffs=(pause,), disturbances=cost)

    view = replace(view, nodes=tuple(resting(node, n) for n, node in enumerate(view.nodes)))
    caching = PoolPlanner()
    kept = set()
    for seconds in (0, 10, 299, 300, 601, 900, 20, 0, 1_799, 1_800, 9_000, 1):
        now = replace(view, taken_at=start + seconds)
        decision = caching.decide(now, None)
        assert decision == PoolPlanner().decide(now, None)
        kept.add(sum(refusal.reason is Reason.RECENTLY_FAILED for refusal in decision.plan.refusals))
    assert len(kept) > 4, "who rests differs from one instant to the next"
