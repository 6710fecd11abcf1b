"""Every GPU counts once and every number agrees with the fleet that it was counted from."""

from dataclasses import replace

from poolmgr.domain.census import Count, GpuState, count_pool, count_pools, gpu_uses
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.modes import Mode
from tests.showcase import A10, fleet, gpu, pod, vm


def test_counts_both_sides_moves_trouble_and_who_waits() -> None:
    assert count_pool(fleet(), PoolName("desktops")) == Count(
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
    states = [use.state for use in gpu_uses(fleet())]
    assert states.count(GpuState.IN_USE) == 4
    assert states.count(GpuState.IDLE) == 2
    assert states.count(GpuState.MOVING) == 1
    assert states.count(GpuState.TROUBLE) == 1


def test_share_is_the_larger_of_memory_and_compute() -> None:
    card = gpu("n", 1)
    snapshot = fleet()
    node = replace(snapshot.nodes[0], gpus=(card,), name=card.node)
    crowded = replace(snapshot, nodes=(node,), vms=(), pods=(pod("a", on=card), pod("b", on=card)))
    assert gpu_uses(crowded)[0].share == 0.5


def test_vm_for_a_model_that_no_node_has_counts_under_no_pool() -> None:
    snapshot = replace(fleet(), vms=(vm("odd", claims=()),))
    counts = count_pools(snapshot)
    assert counts[None, ""].waiting_vms == 1
    assert counts[PoolName("desktops"), A10].waiting_vms == 0


def test_gpu_on_no_driver_outside_a_move_is_trouble() -> None:
    lost = gpu("n", 1, None, desired_mode=Mode.SHARED)
    snapshot = fleet()
    node = replace(snapshot.nodes[0], gpus=(lost,), name=lost.node)
    assert gpu_uses(replace(snapshot, nodes=(node,)))[0].state is GpuState.TROUBLE
