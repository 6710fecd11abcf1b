"""The simulated node, HAMi and scheduler keep the contracts of the real ones."""

from dataclasses import replace

import pytest

from poolmgr.domain.errors import Stale, Unavailable
from poolmgr.domain.fleet import Pool, Transition
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.reasons import Reason
from poolmgr.sim.actuators import Crash
from poolmgr.sim.fleet import A10_RESOURCE, NodeShape, SimulatedFleet
from poolmgr.sim.world import PodRequest, VmRequest

NODE = NodeName("node-1")
FIRST = PciAddress("0000:10:00.0")


def fleet_of(gpus: int = 2, *, passthrough: int = 0, version: tuple[int, int] = (2, 10)) -> SimulatedFleet:
    shapes = [NodeShape(count=1, gpus=gpus)]
    pool = Pool(PoolName("all"))
    return SimulatedFleet(shapes, [pool], passthrough_at_start=passthrough, hami_version=version)


def pod(name: str, *, cores: int = 50, seconds: float = 1_000.0, evictable: bool = False) -> PodRequest:
    return PodRequest(name, 0.0, seconds, memory_mib=cores * 230, cores_percent=cores, evictable=evictable)


def vm(name: str, *, gpus: int = 1, seconds: float = 1_000.0) -> VmRequest:
    return VmRequest(name, 0.0, seconds, A10_RESOURCE, gpus=gpus)


def intent(step: Step, to: Mode, *, epoch: int = 1, device: PciAddress = FIRST) -> NodeIntent:
    move = Transition(NODE, PlanId("p1"), LeaseEpoch(epoch), to, (device,), step, 0.0, 0.0)
    return NodeIntent(((device, to, PlanId("p1")),), move)


async def write(fleet: SimulatedFleet, spec: NodeIntent) -> None:
    node = (await fleet.snapshot()).nodes[0]
    await fleet.actuators.write_intent(NODE, spec, node.revision)


async def stop_plugin(fleet: SimulatedFleet) -> None:
    await fleet.actuators.ensure_plugin(NODE, False)
    await fleet.clock.run_for(10)


async def test_gpu_is_rebound_only_at_the_rebind_step() -> None:
    fleet = fleet_of()
    await stop_plugin(fleet)
    await write(fleet, intent(Step.DRAIN, Mode.PASSTHROUGH))
    await fleet.clock.run_for(120)
    assert (await fleet.snapshot()).nodes[0].gpus[0].observed_mode is Mode.SHARED
    await write(fleet, intent(Step.REBIND, Mode.PASSTHROUGH))
    await fleet.clock.run_for(5)
    assert (await fleet.snapshot()).nodes[0].gpus[0].phase is DevicePhase.MOVING
    await fleet.clock.run_for(60)
    moved = (await fleet.snapshot()).nodes[0].gpus[0]
    assert (moved.observed_mode, moved.plan_id, moved.advertised) == (Mode.PASSTHROUGH, "p1", True)


async def test_gpu_with_a_holder_is_not_unbound_and_says_who_holds_it() -> None:
    fleet = fleet_of()
    await write(fleet, intent(Step.REBIND, Mode.PASSTHROUGH))
    await fleet.clock.run_for(60)
    held = (await fleet.snapshot()).nodes[0].gpus[0]
    assert held.observed_mode is Mode.SHARED
    assert held.reason == Reason.HOLDER_PRESENT
    assert "nvidia-device-plugin" in held.message


async def test_order_of_an_older_leader_is_not_followed() -> None:
    fleet = fleet_of()
    await stop_plugin(fleet)
    await write(fleet, intent(Step.FENCE, Mode.PASSTHROUGH, epoch=5))
    await fleet.clock.run_for(10)
    await write(fleet, intent(Step.REBIND, Mode.PASSTHROUGH, epoch=4))
    await fleet.clock.run_for(60)
    gpu = (await fleet.snapshot()).nodes[0].gpus[0]
    assert (gpu.observed_mode, gpu.reason) == (Mode.SHARED, Reason.STALE_EPOCH)


async def test_vm_binds_only_to_an_advertised_gpu_and_holds_it_until_its_end() -> None:
    fleet = fleet_of(passthrough=1)
    fleet.kube.create_vm(vm("a", seconds=100))
    fleet.kube.create_vm(vm("b"))
    await fleet.clock.run_for(30)
    seen = await fleet.snapshot()
    assert [v.node for v in seen.vms] == [NODE, None]
    assert seen.vms[0].devices == ((NODE, FIRST),)
    assert seen.nodes[0].gpus[0].holders[0].command == "qemu-system-x86"
    await fleet.clock.run_for(100)
    assert [(v.name, v.node) for v in (await fleet.snapshot()).vms] == [("b", NODE)]


async def test_gpu_wanted_shared_is_withdrawn_but_stays_with_its_vm() -> None:
    fleet = fleet_of(passthrough=1)
    fleet.kube.create_vm(vm("a"))
    await fleet.clock.run_for(10)
    await write(fleet, intent(Step.REBIND, Mode.SHARED))
    await fleet.clock.run_for(60)
    gpu = (await fleet.snapshot()).nodes[0].gpus[0]
    assert (gpu.advertised, gpu.observed_mode, gpu.reason) == (
        False,
        Mode.PASSTHROUGH,
        Reason.HOLDER_PRESENT,
    )


async def test_fence_takes_effect_at_hamis_next_tick() -> None:
    fleet = fleet_of(gpus=1)
    await fleet.actuators.ensure_gpus_fenced(NODE, frozenset({"GPU-node-1-0"}))  # type: ignore[arg-type]
    fleet.kube.create_pod(pod("early"))
    await fleet.clock.run_for(20)
    fleet.kube.create_pod(pod("late"))
    await fleet.clock.run_for(60)
    assert [(p.name, p.node) for p in (await fleet.snapshot()).pods] == [("early", NODE), ("late", None)]


async def test_new_registration_holds_only_what_is_on_the_driver() -> None:
    fleet = fleet_of()
    await stop_plugin(fleet)
    await fleet.actuators.ensure_unregistered(NODE)
    await write(fleet, intent(Step.REBIND, Mode.PASSTHROUGH))
    await fleet.clock.run_for(40)
    await fleet.actuators.ensure_plugin(NODE, True)
    await fleet.clock.run_for(10)
    sharing = (await fleet.snapshot()).nodes[0].sharing
    assert sharing is not None
    assert [r.uuid for r in sharing.registered] == ["GPU-node-1-1"]
    assert sharing.allocatable == 10
    assert fleet.world.violations == []


async def test_hami_before_2_10_says_when_it_has_forgotten_a_node() -> None:
    fleet = fleet_of(version=(2, 9))
    await stop_plugin(fleet)
    await fleet.clock.run_for(30)
    sharing = (await fleet.snapshot()).nodes[0].sharing
    assert sharing is not None
    assert sharing.handshake == "Deleted_"


async def test_agent_killed_between_unbind_and_bind_repairs_on_return() -> None:
    fleet = fleet_of()
    await stop_plugin(fleet)
    await write(fleet, intent(Step.REBIND, Mode.PASSTHROUGH))
    await fleet.clock.run_for(5)
    fleet.agents.kill(NODE)
    for _ in range(12):
        await fleet.clock.run_for(10)
        await fleet.snapshot()  # who never listens hears of no silence
    assert fleet.modes() == {None: 1, Mode.SHARED: 1}
    assert not (await fleet.snapshot()).nodes[0].ready
    fleet.agents.start(NODE)
    await fleet.clock.run_for(60)
    assert fleet.modes() == {Mode.PASSTHROUGH: 1, Mode.SHARED: 1}


async def test_after_a_reboot_a_gpu_waits_for_the_manager_to_move_it_back() -> None:
    fleet = fleet_of(passthrough=1)
    await write(fleet, NodeIntent(((FIRST, Mode.PASSTHROUGH, PlanId("p0")),), None))
    await fleet.actuators.ensure_plugin(NODE, False)
    fleet.reboot(NODE)
    assert fleet.modes() == {Mode.SHARED: 2}
    await fleet.clock.run_for(300)
    assert fleet.modes() == {Mode.SHARED: 2}
    assert not any(gpu.advertised for gpu in fleet.world.nodes[NODE].gpus)


async def test_eviction_obeys_the_budget_and_the_pod_starts_again() -> None:
    fleet = fleet_of()
    kept = fleet.kube.create_pod(pod("kept"))
    lost = fleet.kube.create_pod(pod("lost", evictable=True))
    await fleet.clock.run_for(30)
    pods = (await fleet.snapshot()).pods
    denied = await fleet.actuators.evict(pods[0].uid, "notebooks", "kept")
    granted = await fleet.actuators.evict(pods[1].uid, "notebooks", "lost")
    assert (denied.ok, denied.reason, granted.ok) == (False, Reason.EVICTION_DENIED, True)
    await fleet.clock.run_for(30)
    assert {p.uid for p in (await fleet.snapshot()).pods} == {kept.uid, lost.uid[:-1] + "2"}


async def test_lent_node_takes_best_effort_pods_only_and_any_once_it_is_taken_back() -> None:
    fleet = fleet_of()
    there = fleet.kube.create_pod(pod("there"))
    await fleet.clock.run_for(30)
    for _ in range(2):
        await fleet.actuators.ensure_best_effort_only(NODE, True)
    assert (await fleet.snapshot()).nodes[0].best_effort_only
    waits = fleet.kube.create_pod(pod("waits"))
    lent = fleet.kube.create_pod(replace(pod("lent"), best_effort=True))
    await fleet.clock.run_for(60)
    assert (there.node, waits.node, lent.node) == (NODE, None, NODE)
    await fleet.actuators.ensure_best_effort_only(NODE, False)
    await fleet.clock.run_for(5)
    assert not (await fleet.snapshot()).nodes[0].best_effort_only
    assert waits.node == NODE


async def test_lent_node_takes_virtual_machines_all_the_same() -> None:
    fleet = fleet_of(passthrough=1)
    await fleet.actuators.ensure_best_effort_only(NODE, True)
    machine = fleet.kube.create_vm(vm("desk"))
    await fleet.clock.run_for(30)
    assert machine.node == NODE


async def test_write_with_an_old_revision_changes_nothing() -> None:
    fleet = fleet_of()
    await write(fleet, intent(Step.FENCE, Mode.PASSTHROUGH))
    with pytest.raises(Stale):
        await fleet.actuators.write_intent(NODE, intent(Step.REBIND, Mode.PASSTHROUGH), "1")
    transition = (await fleet.snapshot()).nodes[0].transition
    assert transition is not None
    assert transition.step is Step.FENCE


async def test_faults_strike_before_or_after_the_call_took_effect() -> None:
    fleet = fleet_of()
    fleet.faults.fail_at = {1: "before", 2: "after"}
    fleet.faults.crash_at = {3: "before"}
    with pytest.raises(Unavailable):
        await fleet.actuators.ensure_cordoned(NODE, True)
    assert not (await fleet.snapshot()).nodes[0].cordoned
    with pytest.raises(Unavailable):
        await fleet.actuators.ensure_cordoned(NODE, True)
    assert (await fleet.snapshot()).nodes[0].cordoned_by_us
    with pytest.raises(Crash):
        await fleet.actuators.ensure_cordoned(NODE, False)
    assert fleet.faults.by_name == {"ensure_cordoned": 3}


async def test_cordon_of_somebody_else_is_not_lifted() -> None:
    fleet = fleet_of()
    fleet.world.nodes[NODE].unschedulable = True
    await fleet.actuators.ensure_cordoned(NODE, True)
    await fleet.actuators.ensure_cordoned(NODE, False)
    assert (await fleet.snapshot()).nodes[0].cordoned


async def test_failed_flip_is_quarantined_with_its_reason() -> None:
    fleet = fleet_of()
    fleet.agents.faults.remaining[(NODE, FIRST)] = 1
    await stop_plugin(fleet)
    await write(fleet, intent(Step.REBIND, Mode.PASSTHROUGH))
    await fleet.clock.run_for(60)
    gpu = (await fleet.snapshot()).nodes[0].gpus[0]
    assert (gpu.phase, gpu.reason) == (DevicePhase.QUARANTINED, Reason.BIND_FAILED)


async def test_api_that_is_gone_gives_no_synced_view() -> None:
    fleet = fleet_of()
    fleet.faults.api_gone = True
    assert (await fleet.snapshot()).synced is False
    with pytest.raises(Unavailable):
        await fleet.actuators.ensure_plugin(NODE, False)
