"""A manager may die at any call it makes, or any call may fail: no GPU is lost, none is offered twice.

Each sweep first counts the calls of an undisturbed run, then repeats the run once per call and per way of
failing, with a new manager (and a new lease epoch) after each death.
"""

import pytest

from poolmgr.domain.modes import Mode
from poolmgr.sim.actuators import Crash
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Rig


async def there_and_back(rig: Rig, *, survive: bool) -> int:
    """Take GPU 0 for VMs and give it back, with a pod on GPU 1 all the while; returns deaths."""
    controller = rig.controller()
    deaths = 0
    rig.fleet.kube.create_pod(PodRequest("stays", 1_000.0, 1e9, 3_000, 30))
    await rig.fleet.clock.run_for(60.0)
    pod = next(iter(rig.fleet.world.pods.values()))
    taken = 1 - next(i for i in (0, 1) if rig.fleet.world.nodes["node-1"].gpus[i].uuid == pod.slices[0].uuid)
    for mode in (Mode.PASSTHROUGH, Mode.SHARED):
        rig.want(mode, taken)
        for _ in range(3):
            try:
                await rig.run_until_quiet(controller)
                break
            except Crash:
                if not survive:
                    raise
                deaths += 1
                rig.leadership.hand_over()
                rig.check()
                controller = rig.controller()
        assert rig.mode(taken) is mode
        assert rig.mode(1 - taken) is Mode.SHARED
        assert pod.run == 1 and not pod.ended, "the pod on the other GPU was disturbed"
    return deaths


@pytest.mark.sweep
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
async def test_a_successor_goes_on_wherever_its_predecessor_died(hami, when, record_property) -> None:
    undisturbed = Rig(hami_version=hami)
    await there_and_back(undisturbed, survive=False)
    calls = [number for number, name, _ in undisturbed.fleet.faults.log if name != "report"]
    assert len(calls) > 15
    died = 0
    for number in calls:
        rig = Rig(hami_version=hami)
        rig.fleet.faults.crash_at[number] = when
        died += await there_and_back(rig, survive=True)
    assert died == len(calls)
    record_property("points", f"killed the manager {when} each of {died} calls of a move there and back")


@pytest.mark.sweep
@pytest.mark.parametrize("when", ["before", "after"])
async def test_any_call_may_fail_once(when, record_property) -> None:
    undisturbed = Rig()
    await there_and_back(undisturbed, survive=False)
    numbers = [number for number, _, _ in undisturbed.fleet.faults.log]
    for number in numbers:
        rig = Rig()
        rig.fleet.faults.fail_at[number] = when
        await there_and_back(rig, survive=False)
    record_property("points", f"failed each of {len(numbers)} calls {when} its effect")


@pytest.mark.sweep
async def test_the_agent_may_die_at_any_second_of_a_move(record_property) -> None:
    undisturbed = Rig()
    started = undisturbed.fleet.clock.now()
    await there_and_back(undisturbed, survive=False)
    seconds = int(undisturbed.fleet.clock.now() - started)
    for second in range(61, seconds):
        rig = Rig()
        rig.fleet.clock.call_at(started + second, lambda rig=rig: rig.fleet.agents.kill("node-1"))
        rig.fleet.clock.call_at(started + second + 30, lambda rig=rig: rig.fleet.agents.start("node-1"))
        await there_and_back(rig, survive=False)
    record_property("points", f"killed the agent for 30 s at each of {seconds - 61} seconds of a move")


@pytest.mark.sweep
async def test_a_node_may_reboot_at_any_second_of_a_move() -> None:
    for second in range(1, 90, 3):
        rig = Rig()
        controller = rig.controller()
        await rig.run(controller, 5)
        rig.want(Mode.PASSTHROUGH, 0)
        await rig.run(controller, second)
        rig.fleet.reboot("node-1")
        await rig.run(controller, 130)
        await rig.run_until_quiet(controller, limit=1_500)
        assert rig.mode(0) is Mode.PASSTHROUGH
        assert rig.mode(1) is Mode.SHARED


async def test_two_managers_who_both_believe_they_lead_do_no_harm() -> None:
    """The lease forbids it; compare-and-swap and the epoch make it harmless all the same."""
    rig = Rig(nodes=2)
    first, second = rig.controller(), rig.controller()
    for round_ in range(2):
        mode = (Mode.PASSTHROUGH, Mode.SHARED)[round_]
        rig.want(mode, 0)
        rig.want(mode, 1, node="node-2")
        for _ in range(900):
            await first.tick()
            await second.tick()
            await rig.fleet.clock.run_for(1.0)
            rig.check()
            if rig.quiet():
                break
        assert rig.quiet(), rig.state()


async def test_a_vm_that_grabs_the_gpu_before_the_fence_keeps_it() -> None:
    rig = Rig()
    controller = rig.controller()
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run_until_quiet(controller)
    rig.orders.wanted.clear()
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    rig.want(Mode.SHARED, 0)
    for _ in range(200):
        await controller.tick()
        await rig.fleet.clock.run_for(1.0)
        rig.check()
    vm = next(iter(rig.fleet.world.vms.values()))
    assert rig.mode(0) is Mode.PASSTHROUGH if vm.node else rig.mode(0) is Mode.SHARED


async def test_no_call_is_made_without_the_lease() -> None:
    rig = Rig()
    controller = rig.controller()
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run(controller, 3)
    rig.leadership.held = None
    before = rig.fleet.faults.calls
    await rig.run(controller, 60)
    assert rig.fleet.faults.calls == before
    rig.leadership.held = 5
    await rig.run_until_quiet(controller)
    assert rig.mode(0) is Mode.PASSTHROUGH


async def test_the_ledger_may_be_away() -> None:
    rig = Rig()
    rig.ledger.gone = True
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run_until_quiet(rig.controller())
    assert rig.mode(0) is Mode.PASSTHROUGH
