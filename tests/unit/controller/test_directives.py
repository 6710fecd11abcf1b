"""The live controller on the simulated fleet, and operators' directives: who has a GPU keeps it, who comes gets another."""

from dataclasses import replace

import pytest

from poolmgr.domain.directives import Note, Request, Verb
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Pool, SideLimits
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10, A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Rig

NODE = NodeName("node-1")
POOL = Pool(PoolName("a10"), models=(A10,), max_in_flight=8, cooldown_seconds=0)
ALICE = Note("fan fails", "alice", 900.0)


def vm(rig: Rig, name: str, seconds: float = 10_000.0) -> str:
    return rig.fleet.kube.create_vm(VmRequest(name, rig.fleet.clock.now(), seconds, A10_RESOURCE)).uid


def pod(rig: Rig, name: str, seconds: float = 10_000.0) -> None:
    rig.fleet.kube.create_pod(PodRequest(name, rig.fleet.clock.now(), seconds, 20_000, 80))


def holders(rig: Rig, index: int) -> list[str]:
    gpu = rig.fleet.world.nodes[NODE].gpus[index]
    pods = [p.request.name for p, _ in rig.fleet.world.slices_on(gpu.uuid)]
    return pods + ([gpu.allocated_to] if gpu.allocated_to else [])


def off_the_bus(rig: Rig, index: int) -> str | None:
    """The card is gone; its agent says so. Answers its driver before."""
    card = rig.fleet.world.nodes[NODE].gpus[index]
    driver, card.driver, card.quarantined = card.driver, "off the bus", Reason.DEVICE_GONE
    rig.fleet.agents.poke(NODE)
    return driver


async def ask(rig: Rig, controller, verb: Verb, *indexes: int, dry_run: bool = False, **more):
    devices = tuple(rig.address(index) for index in indexes)
    return await controller.change_directives(
        NODE, Request(verb, devices, note=ALICE, **more), dry_run=dry_run
    )


async def started(**over) -> tuple[Rig, object]:
    rig = Rig(pools=(POOL,), **over)
    controller = rig.controller(PoolPlanner())
    await rig.run(controller, 20.0)
    return rig, controller


@pytest.mark.parametrize("release", [(2, 10), (2, 9)])
async def test_a_quarantined_shared_gpu_keeps_its_pod_and_gets_no_other(release: tuple[int, int]) -> None:
    rig, controller = await started(gpus=2, hami_version=release)
    pod(rig, "one")
    await rig.run(controller, 30.0)
    (index,) = [n for n in range(2) if holders(rig, n) == ["one"]]
    await ask(rig, controller, Verb.QUARANTINE, index)
    await rig.run(controller, 40.0)
    assert holders(rig, index) == ["one"], "nobody is disturbed"
    fenced = rig.fleet.world.nodes[NODE].sharing.fence
    uuid = rig.fleet.world.nodes[NODE].gpus[index].uuid
    assert fenced == ({uuid} if release >= (2, 10) else frozenset()), "older releases have no device cordon"
    vm(rig, "waits")
    await rig.run(controller, 200.0)
    assert rig.mode(index) is Mode.SHARED, "it does not move, whoever waits"
    assert rig.mode(1 - index) is Mode.PASSTHROUGH
    await ask(rig, controller, Verb.RELEASE, index)
    await rig.run(controller, 40.0)
    assert not rig.fleet.world.nodes[NODE].sharing.fence


async def test_a_pod_finds_no_room_on_a_quarantined_gpu_with_hamis_device_cordon() -> None:
    rig, controller = await started(gpus=1)
    await ask(rig, controller, Verb.QUARANTINE, 0)
    await rig.run(controller, 40.0)
    pod(rig, "late")
    await rig.run(controller, 60.0)
    assert holders(rig, 0) == []
    await ask(rig, controller, Verb.RELEASE)
    await rig.run(controller, 60.0)
    assert holders(rig, 0) == ["late"]


async def test_a_quarantined_gpu_of_a_vm_leaves_service_with_it_and_never_before() -> None:
    rig, controller = await started(gpus=2)
    uid = vm(rig, "ada")
    await rig.run(controller, 200.0)
    (index,) = [n for n in range(2) if holders(rig, n)]
    gpu = rig.fleet.world.nodes[NODE].gpus[index]
    await ask(rig, controller, Verb.QUARANTINE, index)
    await rig.run(controller, 60.0)
    assert gpu.allocated_to and rig.mode(index) is Mode.PASSTHROUGH, "who has it keeps it"
    other = vm(rig, "bob")  # waits for whatever falls free
    rig.fleet.kube.stop_vm(uid)
    await rig.run(controller, 300.0)
    assert not gpu.allocated_to and rig.mode(1 - index) is Mode.PASSTHROUGH
    assert rig.fleet.world.vms[other].node == NODE, "the other GPU moved for whoever came"
    assert not gpu.advertised and rig.mode(index) is Mode.PASSTHROUGH


async def test_a_node_is_drained_to_containers_as_its_vms_end_and_undone() -> None:
    rig, controller = await started(gpus=2)
    first, second = vm(rig, "ada"), vm(rig, "bob")
    await rig.run(controller, 300.0)
    assert [rig.mode(n) for n in range(2)] == [Mode.PASSTHROUGH] * 2
    rig.fleet.kube.stop_vm(first)
    await ask(rig, controller, Verb.DRAIN, to=Mode.SHARED)
    await rig.run(controller, 200.0)
    modes = [rig.mode(n) for n in range(2)]
    assert sorted(modes) == [Mode.PASSTHROUGH, Mode.SHARED], "the one in use stays until its VM ends"
    assert rig.fleet.world.vms[second].node == NODE
    third = vm(rig, "cora")
    rig.fleet.kube.stop_vm(second)
    await rig.run(controller, 300.0)
    assert [rig.mode(n) for n in range(2)] == [Mode.SHARED] * 2
    assert rig.fleet.world.vms[third].node is None, "nothing moves back for whoever waits"
    refusals = {r.subject.name: r for r in controller.plan.refusals}
    assert refusals[rig.address(0)].reason is Reason.NODE_DRAINED
    assert "by alice" in refusals[rig.address(0)].message
    await ask(rig, controller, Verb.UNDRAIN)
    await rig.run(controller, 300.0)
    assert rig.fleet.world.vms[third].node == NODE


async def test_a_node_is_drained_to_vms_as_its_pods_end() -> None:
    rig, controller = await started(gpus=2)
    pod(rig, "one", seconds=400.0)
    await rig.run(controller, 30.0)
    (busy,) = [n for n in range(2) if holders(rig, n)]
    await ask(rig, controller, Verb.DRAIN, to=Mode.PASSTHROUGH)
    await rig.run(controller, 200.0)
    assert (rig.mode(busy), rig.mode(1 - busy)) == (Mode.SHARED, Mode.PASSTHROUGH)
    assert holders(rig, busy) == ["one"] and rig.fleet.actuators.evictions == 0
    await rig.run(controller, 500.0)
    assert rig.mode(busy) is Mode.PASSTHROUGH


async def test_a_drain_keeps_the_pools_minimum_and_says_so() -> None:
    rig = Rig(pools=(replace(POOL, passthrough=SideLimits(min=1)),), gpus=2)
    controller = rig.controller(PoolPlanner())
    await rig.run(controller, 200.0)
    await ask(rig, controller, Verb.DRAIN, to=Mode.SHARED)
    await rig.run(controller, 200.0)
    (index,) = [n for n in range(2) if rig.mode(n) is Mode.PASSTHROUGH]
    said = [r for r in controller.plan.refusals if r.subject.name == rig.address(index)]
    assert [r.reason for r in said] == [Reason.AT_MINIMUM], "one sentence a GPU"
    assert said[0].message.startswith("an operator is draining node-1 to Shared, but ")
    assert "has to wait: pool a10 keeps at least 1" in said[0].message


async def test_what_is_asked_dry_or_in_vain_changes_nothing() -> None:
    rig, controller = await started(gpus=1)
    node, directives = await ask(rig, controller, Verb.QUARANTINE, 0, dry_run=True)
    assert directives.quarantined == {rig.address(0)} and node.directives != directives
    with pytest.raises(Rejected, match="is on its bus"):
        await ask(rig, controller, Verb.FORGET, 0)
    with pytest.raises(Rejected, match="no node 'node-9'"):
        await controller.change_directives("node-9", Request(Verb.CORDON), dry_run=False)
    assert "write_directives" not in rig.fleet.faults.by_name


async def test_a_card_that_is_gone_is_struck_from_the_books_and_the_word_ends() -> None:
    rig, controller = await started(gpus=2)
    world = rig.fleet.world.nodes[NODE]
    gone = rig.address(1)
    off_the_bus(rig, 1)
    await rig.run(controller, 20.0)
    await ask(rig, controller, Verb.FORGET, 1)
    await rig.run(controller, 20.0)
    (node,) = (await rig.fleet.snapshot()).nodes
    assert node.directives.forgotten == {gone}, "the agent still reports it"
    assert {g.pci_address: g.desired_mode for g in node.gpus} == {rig.address(0): Mode.SHARED, gone: None}
    world.gpus.pop()
    rig.fleet.agents.poke(NODE)  # it reports the card no more
    await rig.run(controller, 20.0)
    (node,) = (await rig.fleet.snapshot()).nodes
    assert not node.directives.forgotten
    assert [g.desired_mode for g in node.gpus] == [Mode.SHARED]


async def test_a_card_that_comes_back_before_it_is_forgotten_is_kept() -> None:
    rig, controller = await started(gpus=2)
    card = rig.fleet.world.nodes[NODE].gpus[1]
    driver = off_the_bus(rig, 1)
    await rig.run(controller, 20.0)
    await ask(rig, controller, Verb.FORGET, 1)
    card.quarantined, card.driver = "", driver
    rig.fleet.agents.poke(NODE)
    await rig.run(controller, 40.0)
    (node,) = (await rig.fleet.snapshot()).nodes
    assert not node.directives.forgotten
    assert [g.desired_mode for g in node.gpus] == [Mode.SHARED] * 2


async def test_each_change_is_told_once_and_kept_in_the_audit_with_who_made_it() -> None:
    rig, controller = await started(gpus=1)
    await ask(rig, controller, Verb.QUARANTINE, 0)
    await rig.run(controller, 30.0)
    assert [(c.caller, c.method, c.code) for c in rig.ledger.calls] == [
        ("alice", "ANNOTATE", "GpuQuarantined")
    ]
    assert "is taken out of use (fan fails, by alice" in rig.ledger.calls[0].path
    reported = [m for _, _, reason, m, _ in rig.fleet.actuators.events if reason is Reason.GPU_QUARANTINED]
    assert len([m for m in reported if "taken out of use" in m]) == 1
    second = rig.controller(PoolPlanner())
    await rig.run(second, 30.0)
    assert len(rig.ledger.calls) == 1, "a successor does not tell it again"


async def test_a_lost_ledger_stops_no_directive() -> None:
    rig, controller = await started(gpus=1)
    rig.ledger.gone = True
    await ask(rig, controller, Verb.QUARANTINE, 0)
    await rig.run(controller, 40.0)
    assert rig.fleet.world.nodes[NODE].sharing.fence
