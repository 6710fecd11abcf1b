"""What was just planned is not planned again, and nobody waits for a plan that he does not need."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from poolmgr.controller.loop import Controller
from poolmgr.controller.planning import CURRENT_SECONDS
from poolmgr.controller.results import RebalanceResult
from poolmgr.domain.errors import Stale
from poolmgr.domain.fleet import Pool, RebalanceMode
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import VmRequest
from tests.unit.controller.rig import POOL, Orders, Rig

T = TypeVar("T")


@dataclass
class Counting(Orders):
    """Counts the plans that it makes."""

    plans: int = 0

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        self.plans += 1
        return super().decide(snapshot, learned)


async def managed(pool: Pool = POOL) -> tuple[Rig, Counting, Controller]:
    """A manager that has just planned, and wants nothing moved."""
    rig, planner = Rig(pools=(pool,)), Counting()
    controller = rig.controller(planner)
    await rig.run(controller, 3)
    planner.plans = 0
    return rig, planner, controller


async def dry_run(controller: Controller, **arguments: Any) -> RebalanceResult:
    return await controller.request_rebalance("a10", dry_run=True, **arguments)


async def test_dry_run_is_told_from_the_newest_plan() -> None:
    _, planner, controller = await managed()
    answer = await dry_run(controller)
    assert planner.plans == 0
    assert answer.dry_run
    assert controller.plan is not None
    assert answer.plan.plan_id == controller.plan.plan_id
    assert (await dry_run(controller, generation=POOL.generation)).plan == answer.plan


@pytest.mark.parametrize("mode", [RebalanceMode.RECOMMEND, RebalanceMode.OFF])
async def test_pool_where_an_operators_word_counts_for_more_is_planned_for(mode: RebalanceMode) -> None:
    _, planner, controller = await managed(replace(POOL, rebalance=mode))
    await dry_run(controller)
    assert planner.plans == 1


async def test_plan_of_other_pools_or_of_long_ago_tells_nothing() -> None:
    rig, planner, controller = await managed()
    rig.fleet.set_pools((replace(POOL, max_in_flight=1),))
    await dry_run(controller)
    assert planner.plans == 1
    await controller.tick()
    await rig.fleet.clock.run_for(CURRENT_SECONDS + 1)
    await dry_run(controller)
    assert planner.plans == 3


async def test_vm_that_no_plan_knows_yet_is_planned_for() -> None:
    rig, planner, controller = await managed()
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 900.0, A10_RESOURCE))
    await dry_run(controller)
    assert planner.plans == 1
    await controller.tick()
    await dry_run(controller)
    assert planner.plans == 2


async def test_another_generation_of_the_pool_is_refused_however_new_the_plan_is() -> None:
    _, _, controller = await managed()
    with pytest.raises(Stale) as refused:
        await dry_run(controller, generation=POOL.generation + 1)
    assert refused.value.reason is Reason.STALE_GENERATION


async def test_moves_that_have_been_begun_are_no_longer_to_be_done() -> None:
    rig, planner, controller = await managed()
    planner.wanted[("node-1", 0)] = Mode.PASSTHROUGH
    await controller.tick()
    assert controller.plan is not None
    assert len(controller.plan.moves) == 1
    answer = await dry_run(controller)
    assert (answer.plan.moves, answer.started, answer.refused) == ((), (), ())
    assert planner.plans == 1
    assert rig.transition_step() is not None


async def test_what_the_last_check_stops_is_told_with_its_reason() -> None:
    rig, planner, controller = await managed()
    planner.wanted[("node-1", 0)] = Mode.PASSTHROUGH
    rig.fleet.faults.fail_at = {rig.fleet.faults.calls + 1: "before"}  # the move could not be begun
    await controller.tick()
    assert rig.transition_step() is None
    answer = await dry_run(controller)
    assert [move.pci_address for move in answer.started] == [rig.address(0)]
    rig.fleet.world.nodes[next(iter(rig.fleet.world.nodes))].up = False
    rig.fleet.set_pools((POOL,))
    answer = await dry_run(controller)
    assert answer.started == ()
    assert [refusal.reason for refusal in answer.refused] == [Reason.NODE_NOT_READY]


class Slow:
    """A place where plans are made, each once it is let go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.begun = 0

    async def __call__(self, work: Callable[[], T], /) -> T:
        self.begun += 1
        await self.go_on.wait()
        return work()


async def test_dry_run_does_not_wait_for_the_plan_under_way() -> None:
    rig, slow = Rig(), Slow()
    controller = rig.controller(beside=slow)
    await rig.run(controller, 3)
    slow.go_on.clear()
    ticking = asyncio.create_task(controller.tick())
    await rig.fleet.clock.settle()
    made = slow.begun
    answer = await asyncio.wait_for(dry_run(controller), 60)
    assert answer.plan.plan_id
    assert slow.begun == made
    assert not ticking.done()
    slow.go_on.set()
    await ticking


async def test_dry_run_that_has_waited_for_a_plan_is_told_from_that_one() -> None:
    rig, slow = Rig(), Slow()
    controller = rig.controller(beside=slow)
    await rig.run(controller, 3)
    slow.go_on.clear()
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 900.0, A10_RESOURCE))
    ticking = asyncio.create_task(controller.tick())
    await rig.fleet.clock.settle()
    made = slow.begun
    asking = asyncio.create_task(dry_run(controller))
    await rig.fleet.clock.settle()
    assert not asking.done(), "the plan before does not know the VM"
    slow.go_on.set()
    await ticking
    await asking
    assert slow.begun == made
