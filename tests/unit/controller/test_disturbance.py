"""What a move costs the others on its node: the node is not cordoned where HAMi can be told to give out nothing there, and
with older releases only until it has forgotten the node.

Seconds are of the fleet's virtual clock (`sim/world.py`, Timings).
"""

from dataclasses import dataclass, replace

import pytest

from poolmgr.domain.fleet import Gpu
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, SimGpu, SimNode, Timings, VmRequest
from tests.unit.controller.rig import Rig
from tests.unit.controller.test_failure_is_remembered import StubbornRig

NODE = "node-1"


@dataclass
class Cost:
    """Seconds of one move."""

    cordoned: int = 0
    plugin_away: int = 0
    whole: int = 0


def node_of(rig: Rig) -> SimNode:
    return rig.fleet.world.nodes[NODE]


async def with_a_pod(rig: Rig, controller, seconds: int = 60) -> int:
    """Somebody works on one GPU; the index of another one."""
    rig.fleet.kube.create_pod(PodRequest("stays", 1_000.0, 1e9, 3_000, 30))
    await rig.run(controller, seconds)
    (pod,) = rig.fleet.world.pods.values()
    return next(i for i, gpu in enumerate(node_of(rig).gpus) if gpu.uuid != pod.slices[0].uuid)


async def cost_of(rig: Rig, controller, mode: Mode, *gpus: int) -> Cost:
    rig.want(mode, *gpus)
    cost = Cost()
    while not rig.quiet():
        await rig.run(controller, 1.0)
        cost.whole += 1
        cost.cordoned += node_of(rig).unschedulable
        cost.plugin_away += not node_of(rig).sharing.ready
        assert cost.whole < 900, rig.state()
    return cost


@pytest.mark.parametrize(
    ("hami", "most_cordoned"), [((2, 10), 0), ((2, 8), 24)], ids=["hami-2.10", "hami-2.8"]
)
async def test_a_node_is_cordoned_for_no_longer_than_hami_needs_to_be_told(
    hami, most_cordoned, record_property
) -> None:
    """2.8 is cordoned while its plugin stops and its scheduler comes round, 15 s at most, and no more; two moves in a row,
    as what 2.8 says of the first must not be taken for the second."""
    rig = Rig(gpus=4, hami_version=hami)
    controller = rig.controller()
    free = await with_a_pod(rig, controller)
    for round_ in (1, 2):
        for mode in (Mode.PASSTHROUGH, Mode.SHARED):
            cost = await cost_of(rig, controller, mode, free)
            assert cost.cordoned <= most_cordoned
            assert (cost.cordoned == 0) is (hami >= (2, 10))
            record_property(f"to_{mode.value.lower()}_{round_}", str(cost))
    (pod,) = rig.fleet.world.pods.values()
    assert pod.run == 1 and not pod.ended


@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
async def test_pods_keep_coming_and_none_meets_a_kubelet_without_hamis_plugin(hami) -> None:
    """`Rig.check` fails as soon as HAMi sends a pod to a node whose plugin we have stopped."""
    rig = Rig(gpus=4, hami_version=hami)
    controller = rig.controller()
    free = await with_a_pod(rig, controller)
    for mode in (Mode.PASSTHROUGH, Mode.SHARED):
        rig.want(mode, free)
        for second in range(150):
            now = rig.fleet.clock.now()
            if second % 5 == 0:  # HAMi binds one pod of a node every two seconds
                request = PodRequest(f"{mode.value}-{second}", now, 20.0, 500, 1, cpu_milli=100)
                rig.fleet.kube.create_pod(request)
            await rig.run(controller, 1.0)
        assert rig.mode(free) is mode and rig.quiet(), rig.state()
    await rig.run(controller, 60)
    late = [p.request.name for p in rig.fleet.world.pods.values() if p.node is None and not p.ended]
    assert not late, "whoever was turned away meanwhile has been placed since"


async def test_without_closing_anything_pods_would_be_sent_there() -> None:
    """What the closing is for."""
    rig = Rig()
    await rig.fleet.actuators.ensure_plugin(NODE, False)
    rig.fleet.kube.create_pod(PodRequest("early", rig.fleet.clock.now(), 100.0, 500, 1))
    await rig.fleet.clock.run_for(5.0)
    assert any("whose kubelet turns it away" in said for said in rig.fleet.world.violations)


async def test_gpus_that_are_wanted_together_cost_one_restart_of_the_plugin() -> None:
    rig = Rig(gpus=4)
    controller = rig.controller()
    await with_a_pod(rig, controller)
    (pod,) = rig.fleet.world.pods.values()
    others = [i for i, gpu in enumerate(node_of(rig).gpus) if gpu.uuid != pod.slices[0].uuid]
    await cost_of(rig, controller, Mode.PASSTHROUGH, *others)
    assert sum(d.plugin_stops for d in node_of(rig).disturbances) == 1
    await cost_of(rig, controller, Mode.SHARED, *others)
    assert sum(d.plugin_stops for d in node_of(rig).disturbances) == 2


@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
async def test_a_vm_starts_before_hamis_plugin_is_back(hami) -> None:
    rig = Rig(gpus=4, hami_version=hami)
    controller = rig.controller()
    free = await with_a_pod(rig, controller)
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    rig.want(Mode.PASSTHROUGH, free)
    (vm,) = rig.fleet.world.vms.values()
    while vm.node is None:
        await rig.run(controller, 1.0)
        assert not rig.quiet(), "the move is over"
    assert rig.transition_step() is not None
    await rig.run_until_quiet(controller)
    assert vm.node == NODE


async def test_a_vm_keeps_the_gpu_it_has_though_hamis_plugin_never_comes_back() -> None:
    rig = Rig(gpus=4)
    controller = rig.controller()
    free = await with_a_pod(rig, controller)
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    rig.fleet.world.timings = Timings(plugin_start=1e6)
    rig.want(Mode.PASSTHROUGH, free)
    (vm,) = rig.fleet.world.vms.values()
    await rig.run(controller, 600)
    assert vm.node == NODE and rig.mode(free) is Mode.PASSTHROUGH
    assert node_of(rig).transition is None
    assert not node_of(rig).sharing.fence
    assert any(step.reason is Reason.STEP_TIMED_OUT for step in rig.ledger.steps)


async def test_of_a_move_of_two_the_gpu_that_a_vm_has_already_stays_though_the_other_fails() -> None:
    """No cordon keeps the VM waiting until both are there."""
    rig = StubbornRig(set(), gpus=4)
    controller = rig.controller()
    await with_a_pod(rig, controller)
    (pod,) = rig.fleet.world.pods.values()
    first, second = [i for i, gpu in enumerate(node_of(rig).gpus) if gpu.uuid != pod.slices[0].uuid][:2]
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    rig.stubborn.add((NODE, second))
    rig.want(Mode.PASSTHROUGH, first, second)
    (vm,) = rig.fleet.world.vms.values()
    while vm.node is None:
        await rig.run(controller, 1.0)
    rig.orders.wanted.clear()
    await rig.run(controller, 1_500)
    assert vm.node == NODE and rig.mode(first) is Mode.PASSTHROUGH
    assert rig.mode(second) is Mode.SHARED
    assert node_of(rig).transition is None, "nothing goes round and round"
    assert sum(d.plugin_stops for d in node_of(rig).disturbances) == 1, "nor is the node disturbed once more"
    assert rig.address(second) in {b.pci_address for b in node_of(rig).backoffs}
    assert node_of(rig).gpus[first].advertised
    assert {u.uuid for u in node_of(rig).sharing.registered} >= {node_of(rig).gpus[second].uuid}
    assert not node_of(rig).sharing.fence and not node_of(rig).unschedulable


@pytest.mark.parametrize("mode", [Mode.PASSTHROUGH, Mode.SHARED])
@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
async def test_others_stay_open_while_it_cannot_be_told_whether_the_gpu_is_in_use(mode, hami) -> None:
    """Whoever makes a witness fall silent right after the fence (the kubelet's socket, NVML) has closed one GPU and no more, for
    as long as the drain may take; the plugin stays."""
    rig = Rig(gpus=4, hami_version=hami)
    controller = rig.controller()
    free = await with_a_pod(rig, controller)
    if mode is Mode.SHARED:
        await cost_of(rig, controller, Mode.PASSTHROUGH, free)
    rig.want(mode, free)
    while rig.transition_step() is None:
        await rig.run(controller, 1)
    unclear, observe = (
        Verdict(False, Reason.CANNOT_TELL, "the kubelet does not answer"),
        rig.fleet.agents._observe,
    )

    def doubtful(at: SimNode, gpu: SimGpu) -> Gpu:
        return replace(observe(at, gpu), rebind=unclear)

    rig.fleet.agents._observe = doubtful  # type: ignore[method-assign]
    rig.fleet.agents.report(node_of(rig))
    rig.orders.wanted.clear()
    closed = away = 0
    for _ in range(900):
        await rig.run(controller, 1)
        closed += len(node_of(rig).sharing.fence) > 1 or node_of(rig).unschedulable
        away += not node_of(rig).sharing.ready
    assert (closed <= 20, away) == (True, 0), (closed, away)
    assert node_of(rig).transition is None and not node_of(rig).sharing.fence
