"""The loop on the simulated fleet: how often it plans, whatever happens how often."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Orders, Rig


@dataclass
class Noting(Orders):
    """Notes when it is asked, and who waits then."""

    asked: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        self.asked.append((snapshot.taken_at, sum(vm.node is None for vm in snapshot.vms)))
        return super().decide(snapshot, learned)


async def test_pods_that_come_all_the_time_are_planned_for_once_a_second() -> None:
    rig, planner = Rig(), Noting()
    start = rig.fleet.clock.now()
    rig.fleet.kube.schedule(PodRequest(f"p{n}", start + n / 20, 900.0, 100, 1) for n in range(200))
    running = asyncio.create_task(rig.controller(planner).run())
    await rig.fleet.clock.run_for(10.0)
    running.cancel()
    gaps = [later - sooner for (sooner, _), (later, _) in zip(planner.asked, planner.asked[1:], strict=False)]
    assert 9 <= len(planner.asked) <= 12
    assert min(gaps) >= 1.0


async def test_vm_is_planned_for_the_moment_it_is_seen() -> None:
    rig, planner = Rig(), Noting()
    start = rig.fleet.clock.now()
    rig.fleet.kube.schedule(PodRequest(f"p{n}", start + n / 20, 900.0, 100, 1) for n in range(200))
    rig.fleet.kube.schedule([VmRequest("v", start + 5.51, 900.0, A10_RESOURCE)])
    running = asyncio.create_task(rig.controller(planner).run())
    await rig.fleet.clock.run_for(10.0)
    running.cancel()
    first = next(at for at, waiting in planner.asked if waiting)
    assert first == start + 5.51


async def test_a_node_that_was_just_written_is_left_until_the_view_shows_it() -> None:
    """The first look adopts the GPUs as they are; the move that is wanted of the same node begins later."""
    rig = Rig()
    rig.want(Mode.PASSTHROUGH, 0)
    controller = rig.controller()
    [node] = rig.fleet.world.nodes.values()
    await controller.tick()
    assert node.transition is None
    await rig.run(controller, 5)
    assert node.transition is not None


class Late:
    """A view that shows what was there when it was told to be late."""

    def __init__(self, rig: Rig) -> None:
        self._fleet = rig.fleet
        self.shown: ClusterSnapshot | None = None

    async def snapshot(self) -> ClusterSnapshot:
        now = await self._fleet.snapshot()
        return now if self.shown is None else replace(self.shown, taken_at=now.taken_at)


async def test_nothing_is_done_before_the_view_shows_what_was_written() -> None:
    rig = Rig(nodes=2)
    late = Late(rig)
    controller = rig.controller(view=late)
    await rig.run(controller, 5)
    late.shown = await rig.fleet.snapshot()
    rig.want(Mode.PASSTHROUGH, 0)
    await controller.tick()
    assert rig.transition_step() is not None
    rig.want(Mode.PASSTHROUGH, 0, node="node-2")
    done = rig.fleet.faults.calls
    await controller.tick()
    assert controller.readiness.reason is Reason.NOT_SYNCED
    assert "last write to node-1" in controller.readiness.message
    assert rig.fleet.faults.calls == done
    late.shown = None
    await controller.tick()
    assert controller.readiness
    assert rig.transition_step("node-2") is not None
