"""Every GPU counts once and every number agrees with the fleet that it was counted from."""

from dataclasses import replace

from bench.speed.planner import random_cluster
from poolmgr.domain.census import CensusCache, Count, take_census
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import GpuState
from tests.showcase import A10, fleet, gpu, pod, vm
from tests.unit.planner import builders


def test_counts_both_sides_moves_trouble_and_who_waits() -> None:
    assert take_census(fleet()).pool(PoolName("desktops")) == Count(
        gpus=8,
        passthrough=3,
        passthrough_used=2,
        shared=3,
        shared_used=2,
        shared_share=0.5,
        moving=1,
        trouble=1,
        running_vms=2,
        running_pods=2,
        waiting_vms=1,
        waiting_pods=1,
    )


def test_every_gpu_has_exactly_one_state() -> None:
    states = [use.state for use in take_census(fleet()).uses]
    assert states.count(GpuState.IN_USE) == 4
    assert states.count(GpuState.IDLE) == 2
    assert states.count(GpuState.MOVING) == 1
    assert states.count(GpuState.TROUBLE) == 1


def test_share_is_the_larger_of_memory_and_compute() -> None:
    card = gpu("n", 1)
    snapshot = fleet()
    node = replace(snapshot.nodes[0], gpus=(card,), name=card.node)
    crowded = replace(snapshot, nodes=(node,), vms=(), pods=(pod("a", on=card), pod("b", on=card)))
    [use] = take_census(crowded).uses
    assert use.share == 0.5


def test_vm_for_a_model_that_no_node_has_counts_under_no_pool() -> None:
    snapshot = replace(fleet(), vms=(vm("odd", claims=()),))
    counts = take_census(snapshot).counts
    assert counts[None, ""].waiting_vms == 1
    assert counts[PoolName("desktops"), A10].waiting_vms == 0


def test_gpu_on_no_driver_outside_a_move_is_trouble() -> None:
    lost = gpu("n", 1, None, desired_mode=Mode.SHARED)
    snapshot = fleet()
    node = replace(snapshot.nodes[0], gpus=(lost,), name=lost.node)
    [use] = take_census(replace(snapshot, nodes=(node,))).uses
    assert use.state is GpuState.TROUBLE


def test_pod_that_is_placed_and_not_bound_yet_has_its_gpu_and_does_not_run() -> None:
    card = gpu("n", 1)
    snapshot = fleet()
    node = replace(snapshot.nodes[0], gpus=(card,), name=card.node)
    placed = replace(pod("a", on=card), node=None)
    census = take_census(replace(snapshot, nodes=(node,), vms=(), pods=(placed,)))
    [use] = census.uses
    assert (use.pods, use.state) == ((placed,), GpuState.IN_USE)
    assert census.pool(PoolName("desktops")).running_pods == 0


def test_waiting_vm_counts_where_the_first_pool_has_its_resource() -> None:
    first, second = gpu("n", 1, pool=PoolName("b")), gpu("n", 2, pool=PoolName("a"))
    node = replace(fleet().nodes[0], gpus=(first, second), name=first.node)
    counts = take_census(fleet(nodes=(node,), vms=(vm("w"),), pods=())).counts
    assert counts[PoolName("a"), A10].waiting_vms == 1
    assert counts[PoolName("b"), A10].waiting_vms == 0


def test_census_that_remembers_counts_as_one_that_does_not() -> None:
    view = random_cluster(nodes=24, gpus=8, pods=400, seed=3)
    cache = CensusCache()
    for step in range(8):
        now = replace(
            view,
            vms=tuple(vm for n, vm in enumerate(view.vms) if (n + step) % 3),
            pods=tuple(pod for n, pod in enumerate(view.pods) if (n + step // 2) % 3),
        )
        if step == 3:
            moved = replace(view.nodes[5].gpus[0], pool=None, phase=DevicePhase.QUARANTINED)
            changed = replace(view.nodes[5], gpus=(moved, *view.nodes[5].gpus[1:]))
            now = replace(now, nodes=(*view.nodes[:5], changed, *view.nodes[6:]))
        if step == 5:
            now = replace(now, nodes=now.nodes[10:])
        assert cache.take(now) == take_census(now)


def test_node_with_the_same_workloads_keeps_its_part() -> None:
    view = random_cluster(nodes=4, gpus=2, pods=20, seed=1)
    cache = CensusCache()
    before = cache.take(view)
    gone = next(pod for pod in view.pods if pod.node == view.nodes[0].name)
    after = cache.take(replace(view, pods=tuple(pod for pod in view.pods if pod is not gone)))
    assert after.nodes[0] is not before.nodes[0]
    assert all(one is other for one, other in zip(after.nodes[1:], before.nodes[1:], strict=True))


def test_who_waits_for_something_else_waits_for_no_pools_gpus() -> None:
    no = Verdict(False, Reason.CANNOT_START, "its disk does not exist")
    view = builders.snapshot(
        builders.node("a", "s"),
        vms=(builders.vm("v", servable=no),),
        pods=(builders.pod("p", servable=no), builders.pod("q")),
    )
    found = take_census(view).counts
    assert (found[("p", A10)].waiting_vms, found[("p", A10)].waiting_pods) == (0, 1)
    assert (found[(None, "")].waiting_vms, found[(None, "")].waiting_pods) == (1, 1)
