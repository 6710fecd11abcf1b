"""Beside NVIDIA's GPU operator: its services leave a GPU for a move and come back, wherever the manager dies; what others
have said stays; a driver is not replaced under GPUs of VMs."""

import pytest

from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.reasons import Reason
from poolmgr.sim.actuators import Crash
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.gpu_operator import DONE, FOR_DRIVER_UPGRADE, REQUIRED
from poolmgr.sim.world import PodRequest, SimNode, VmRequest
from poolmgr.wire.gpu_operator import DEPLOY, PAUSED, RUNS, UPGRADE_SKIP, UPGRADE_STATE, WORKLOAD_CONFIG
from tests.unit.controller.rig import Rig

EXPORTER = DEPLOY + "dcgm-exporter"
GFD = DEPLOY + "gpu-feature-discovery"
CONFIG = DEPLOY + "mig-manager"


def operated(**over) -> Rig:
    """A node with the operator's parts; somebody has switched one of them off, another tool has paused one."""
    rig = Rig(**over)
    rig.fleet.operator.install()
    rig.fleet.operator.set_label("node-1", GFD, "false")
    for node in rig.fleet.world.nodes.values():
        rig.fleet.agents.report(node)
    return rig


def node_of(rig: Rig) -> SimNode:
    return rig.fleet.world.nodes["node-1"]


def said(rig: Rig) -> list[str]:
    return [step.message for step in rig.ledger.steps]


async def settle(rig: Rig, controller, seconds: float = 60.0) -> None:
    await rig.run(controller, seconds)


async def test_a_service_that_has_a_gpu_open_leaves_for_the_move_and_comes_back() -> None:
    rig = operated()
    controller = rig.controller()
    await settle(rig, controller, 5.0)
    before = node_of(rig).operands["dcgm-exporter"].uid
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run_until_quiet(controller)
    await settle(rig, controller)
    assert rig.mode(0) is Mode.PASSTHROUGH
    assert node_of(rig).labels[EXPORTER] == RUNS
    back = node_of(rig).operands["dcgm-exporter"]
    assert back.uid != before and not back.ending, "it was ended and started anew"
    assert any("pausing dcgm-exporter on node-1 until the move is over" in message for message in said(rig))
    assert any("dcgm-exporter may run on node-1 again" in message for message in said(rig))


async def test_the_service_is_gone_before_hami_is_disturbed_and_before_anything_is_unbound() -> None:
    rig = operated()
    controller = rig.controller()
    await settle(rig, controller, 5.0)
    rig.want(Mode.PASSTHROUGH, 0)
    seen = []
    for _ in range(120):
        await rig.run(controller, 1.0)
        node = node_of(rig)
        seen.append(
            (
                "dcgm-exporter" in node.operands,
                node.sharing.wanted,
                node.gpus[0].driver,
                rig.transition_step(),
            )
        )
    assert all(not exporter for exporter, _, _, step in seen if step is Step.REBIND)
    assert all(not exporter for exporter, plugin, driver, _ in seen if not plugin and driver == "nvidia")


async def test_a_label_that_somebody_else_has_set_is_never_written() -> None:
    rig = operated()
    controller = rig.controller()
    values = set()
    for mode in (Mode.PASSTHROUGH, Mode.SHARED):
        rig.want(mode, 0)
        for _ in range(200):
            await rig.run(controller, 1.0)
            values.add(node_of(rig).labels[GFD])
    assert values == {"false"}
    assert node_of(rig).labels[CONFIG] == RUNS and "mig-manager" in node_of(rig).operands
    assert UPGRADE_SKIP not in node_of(rig).labels, "held while a GPU served VMs, and let go of afterwards"


async def test_a_service_that_does_not_end_stops_the_move_before_hami_is_disturbed() -> None:
    rig = operated()
    rig.fleet.world.timings = rig.fleet.world.timings.__class__(operand_stop=10_000.0)
    controller = rig.controller()
    await settle(rig, controller, 5.0)
    rig.want(Mode.PASSTHROUGH, 0)
    stopped = False
    for _ in range(400):
        await rig.run(controller, 1.0)
        stopped |= not node_of(rig).sharing.wanted
    assert not stopped, "HAMi's plugin was left alone"
    assert rig.mode(0) is Mode.SHARED
    assert node_of(rig).labels[EXPORTER] == RUNS
    assert any("waiting for dcgm-exporter to end on node-1" in message for message in said(rig))
    assert node_of(rig).backoffs, "and it is not asked again at once"


async def test_a_service_that_somebody_lets_run_meanwhile_is_paused_once_more() -> None:
    rig = operated()
    controller = rig.controller()
    await settle(rig, controller, 5.0)
    rig.want(Mode.PASSTHROUGH, 0)
    while rig.transition_step() is not Step.DETACH:
        await rig.run(controller, 1.0)
    await rig.run(controller, 8.0)
    rig.fleet.operator.set_label("node-1", EXPORTER, RUNS)
    await rig.run_until_quiet(controller)
    assert rig.mode(0) is Mode.PASSTHROUGH
    assert node_of(rig).labels[EXPORTER] == RUNS


# -- the manager dies ---------------------------------------------------------------------------------------


async def there_and_back(rig: Rig, *, survive: bool) -> int:
    controller = rig.controller()
    deaths = 0
    rig.fleet.kube.create_pod(PodRequest("stays", 1_000.0, 1e9, 3_000, 30))
    await rig.fleet.clock.run_for(60.0)
    (pod,) = rig.fleet.world.pods.values()
    taken = 1 - next(i for i in (0, 1) if node_of(rig).gpus[i].uuid == pod.slices[0].uuid)
    for mode in (Mode.PASSTHROUGH, Mode.SHARED):
        rig.want(mode, taken)
        for _ in range(3):
            try:
                await rig.run_until_quiet(controller)
                await settle(rig, controller)
                break
            except Crash:
                if not survive:
                    raise
                deaths += 1
                rig.leadership.hand_over()
                rig.check()
                controller = rig.controller()
        assert rig.mode(taken) is mode
        assert not pod.ended and pod.run == 1
        labels = node_of(rig).labels
        assert {labels[DEPLOY + name] for name in ("dcgm-exporter", "mig-manager", "operator-validator")} == {
            RUNS
        }
        assert labels[GFD] == "false"
        assert "dcgm-exporter" in node_of(rig).operands, "the holder is back"
        assert (UPGRADE_SKIP in labels) is (mode is Mode.PASSTHROUGH)
    return deaths


@pytest.mark.sweep
@pytest.mark.parametrize("when", ["before", "after"])
async def test_services_come_back_wherever_the_manager_died(when, record_property) -> None:
    undisturbed = operated()
    await there_and_back(undisturbed, survive=False)
    calls = [number for number, name, _ in undisturbed.fleet.faults.log if name != "report"]
    assert {name for _, name, _ in undisturbed.fleet.faults.log} >= {
        "ensure_paused",
        "ensure_resumed",
        "ensure_upgrades_held",
    }
    died = 0
    for number in calls:
        rig = operated()
        rig.fleet.faults.crash_at[number] = when
        died += await there_and_back(rig, survive=True)
    assert died == len(calls)
    record_property(
        "points", f"killed the manager {when} each of {died} calls of a move beside the GPU operator"
    )


async def test_a_manager_that_dies_between_pause_and_resume_is_followed_by_one_that_resumes() -> None:
    undisturbed = operated()
    await there_and_back(undisturbed, survive=False)
    for name in ("ensure_paused", "ensure_resumed"):
        number = next(n for n, call, _ in undisturbed.fleet.faults.log if call == name)
        for when in ("before", "after"):
            rig = operated()
            rig.fleet.faults.crash_at[number] = when
            assert await there_and_back(rig, survive=True) == 1


async def test_a_pause_whose_move_is_forgotten_is_ended() -> None:
    """The GPUNode was deleted in the midst of a move: nothing but the label remembers the pause."""
    rig = operated()
    controller = rig.controller()
    await settle(rig, controller, 5.0)
    rig.fleet.operator.set_label("node-1", EXPORTER, PAUSED)
    await settle(rig, controller)
    assert node_of(rig).labels[EXPORTER] == RUNS
    events = [(reason, message) for _, _, reason, message, _ in rig.fleet.actuators.events]
    assert (Reason.SERVICES_RESUMED, "dcgm-exporter may run on node-1 again") in events


# -- who keeps the driver -----------------------------------------------------------------------------------


async def test_a_driver_is_not_replaced_while_a_gpu_serves_a_vm_and_is_afterwards() -> None:
    rig = operated()
    controller = rig.controller()
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run_until_quiet(controller)
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 2_000.0, A10_RESOURCE))
    await settle(rig, controller)
    rig.fleet.operator.upgrade("node-1")
    await settle(rig, controller, 1_000.0)
    assert node_of(rig).labels[UPGRADE_STATE] == REQUIRED, "it waits"
    assert rig.fleet.world.violations == []
    await settle(rig, controller, 1_500.0)
    rig.want(Mode.SHARED, 0)
    await rig.run_until_quiet(controller)
    await settle(rig, controller, 600.0)
    assert node_of(rig).labels[UPGRADE_STATE] == DONE, "it went on once no GPU served VMs"
    assert node_of(rig).labels[EXPORTER] == RUNS


async def test_without_the_hold_the_driver_would_take_the_gpu_from_the_vm() -> None:
    """What the hold is for: the same, with somebody's word that upgrades are to happen all the same."""
    rig = operated()
    controller = rig.controller()
    rig.fleet.operator.set_label("node-1", UPGRADE_SKIP, "false")
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run_until_quiet(controller)
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    await settle(rig, controller)
    rig.fleet.operator.upgrade("node-1")
    for _ in range(400):
        await controller.tick()
        await rig.fleet.clock.run_for(1.0)
    assert node_of(rig).labels[UPGRADE_SKIP] == "false", "somebody else's label"
    assert any("out of a running VM" in violation for violation in rig.fleet.world.violations)
    reported = [
        message
        for _, _, reason, message, warning in rig.fleet.actuators.events
        if warning and reason is Reason.DRIVER_RESTARTS
    ]
    assert len(reported) == 1
    assert "its first step may take 0000:10:00.0 off vfio-pci, out of running VMs too" in reported[0]


async def test_a_move_that_has_not_rebound_anything_is_undone_when_the_driver_is_replaced() -> None:
    rig = operated()
    rig.fleet.operator.set_label("node-1", UPGRADE_SKIP, "false")
    rig.fleet.kube.create_pod(PodRequest("busy", 1_000.0, 1e9, 23_000, 90))
    rig.fleet.kube.create_pod(PodRequest("busy-too", 1_000.0, 1e9, 23_000, 90))
    controller = rig.controller()
    await settle(rig, controller, 30.0)
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run(controller, 20.0)
    rig.fleet.operator.upgrade("node-1")
    await rig.run(controller, 30.0)
    assert rig.transition_step() is None
    await rig.run(controller, 400.0)
    assert node_of(rig).labels[UPGRADE_STATE] == DONE
    assert FOR_DRIVER_UPGRADE not in str(node_of(rig).labels)
    assert node_of(rig).backoffs == (), "nobody rests for what somebody else did"


async def test_a_node_that_the_operator_runs_for_machines_is_left_alone_whatever_becomes_of_its_gpus() -> (
    None
):
    rig = operated()
    controller = rig.controller()
    await settle(rig, controller)
    rig.fleet.operator.set_label("node-1", WORKLOAD_CONFIG, "vm-passthrough")
    for gpu in node_of(rig).gpus:  # its vfio-manager binds them
        gpu.driver = "vfio-pci"
    rig.fleet.agents.poke("node-1")
    before = rig.fleet.faults.by_name["write_intent"]
    await settle(rig, controller, 300.0)
    rig.want(Mode.SHARED, 0)
    await settle(rig, controller, 60.0)
    assert rig.fleet.faults.by_name["write_intent"] == before
    assert [gpu.driver for gpu in node_of(rig).gpus] == ["vfio-pci", "vfio-pci"]
