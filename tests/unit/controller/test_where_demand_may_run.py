"""The live controller on the simulated fleet, whose scheduler goes by the same rules as the planner."""

from dataclasses import replace

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import NodeTerm, Placement, Requirement, Taint
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import POOL, Rig

ON_2 = Placement(affinity=(NodeTerm((Requirement("kubernetes.io/hostname", "In", ("node-2",)),)),))
DESK = VmRequest("desk", 0.0, 3_600.0, A10_RESOURCE, placement=ON_2)


def modes(rig: Rig, node: str) -> list[Mode | None]:
    return [gpu.mode for gpu in rig.fleet.world.nodes[NodeName(node)].gpus]


async def test_a_pinned_machine_runs_where_it_may_and_no_gpu_moves_elsewhere() -> None:
    rig = Rig(nodes=3)
    machine = rig.fleet.kube.create_vm(DESK)
    await rig.run(rig.controller(PoolPlanner()), 300.0, every=5.0)
    assert machine.node == "node-2"
    assert modes(rig, "node-1") == modes(rig, "node-3") == [Mode.SHARED, Mode.SHARED]


async def test_nothing_moves_for_one_that_no_node_takes() -> None:
    rig = Rig(nodes=3)
    rig.fleet.world.nodes[NodeName("node-2")].taints = (Taint("dedicated", "ml", "NoSchedule"),)
    machine = rig.fleet.kube.create_vm(DESK)
    await rig.run(rig.controller(PoolPlanner()), 300.0, every=5.0)
    assert machine.node is None
    assert all(modes(rig, f"node-{n}") == [Mode.SHARED, Mode.SHARED] for n in (1, 2, 3))


async def test_a_pod_gets_a_gpu_of_the_node_where_it_may_run() -> None:
    rig = Rig(nodes=2, pools=(replace(POOL, cooldown_seconds=0),))
    for node in rig.fleet.world.nodes.values():
        node.labels["zone"] = "a" if node.name == "node-1" else "b"
    there = Placement(selector=(("zone", "b"),))
    occupant = VmRequest("other", 0.0, 60.0, A10_RESOURCE, gpus=2, placement=there)
    controller = rig.controller(PoolPlanner())
    rig.fleet.kube.create_vm(occupant)
    await rig.run(controller, 300.0, every=5.0)
    assert modes(rig, "node-2") == [Mode.PASSTHROUGH, Mode.PASSTHROUGH]
    pod = rig.fleet.kube.create_pod(PodRequest("train", 0.0, 900.0, 3_000, 10, placement=there))
    await rig.run(controller, 300.0, every=5.0)
    assert pod.node == "node-2"
    assert Mode.SHARED in modes(rig, "node-2")


async def test_a_machine_that_does_not_take_what_is_free_loses_it_to_a_pod() -> None:
    """Its node has the GPU, and nobody binds it."""
    rig = Rig(nodes=1, gpus=1)
    controller = rig.controller(PoolPlanner())
    rig.fleet.kube.scheduler_up = False
    rig.fleet.kube.create_vm(replace(DESK, placement=Placement()))
    await rig.run(controller, 90.0, every=5.0)
    assert modes(rig, "node-1") == [Mode.PASSTHROUGH]
    pod = rig.fleet.kube.create_pod(PodRequest("train", 0.0, 900.0, 3_000, 10))
    await rig.run(controller, 400.0, every=5.0)
    assert pod.node == "node-1"
