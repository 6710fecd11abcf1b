"""Everything at once: random demand, deaths, faults and reboots under the live controller and planner."""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from poolmgr.controller.loop import Controller
from poolmgr.domain.fleet import EvictionRule, Pool, SideLimits
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.actuators import Crash
from poolmgr.sim.fleet import A10, A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Rig

NODES = 3
GPUS = 4

happenings = st.one_of(
    st.tuples(st.just("vm"), st.integers(1, 2), st.floats(30, 900)),
    st.tuples(st.just("pod"), st.integers(1_000, 23_000), st.floats(30, 900)),
    st.tuples(st.just("stop"), st.integers(0, 9), st.just(0.0)),
    st.tuples(st.just("crash"), st.integers(1, 6), st.just(0.0)),
    st.tuples(st.just("fail"), st.integers(1, 6), st.just(0.0)),
    st.tuples(st.just("outage"), st.integers(5, 60), st.just(0.0)),
    st.tuples(st.just("agent"), st.integers(1, NODES), st.floats(5, 120)),
    st.tuples(st.just("reboot"), st.integers(1, NODES), st.just(0.0)),
    st.tuples(st.just("wait"), st.integers(1, 120), st.just(0.0)),
)


class Storm(Rig):
    """A fleet on which things happen, with a manager that is replaced whenever it dies."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(nodes=NODES, gpus=GPUS, pools=(pool,))
        self.pool = pool
        self.manager: Controller = self.controller(PoolPlanner())
        self.made = 0

    async def happen(self, what: str, amount: int, extra: float) -> None:
        fleet, now = self.fleet, self.fleet.clock.now()
        node = NodeName(f"node-{amount}")
        self.made += 1
        match what:
            case "vm":
                fleet.kube.create_vm(VmRequest(f"vm{self.made}", now, extra, A10_RESOURCE, gpus=amount))
            case "pod":
                fleet.kube.create_pod(
                    PodRequest(
                        f"pod{self.made}", now, extra, amount, 25, best_effort=amount % 2 == 0, evictable=True
                    )
                )
            case "stop":
                for uid in list(fleet.world.vms)[amount : amount + 1]:
                    fleet.kube.stop_vm(uid)
            case "crash":
                fleet.faults.crash_at[fleet.faults.calls + amount] = "after" if amount % 2 else "before"
            case "fail":
                fleet.faults.fail_at[fleet.faults.calls + amount] = "after" if amount % 2 else "before"
            case "outage":
                fleet.faults.api_gone = True
                fleet.clock.call_later(amount, self._end_outage)
            case "agent":
                fleet.agents.kill(node)
                fleet.clock.call_later(extra, lambda: fleet.agents.start(node))
            case "reboot":
                fleet.reboot(node)
        await self.live(amount if what == "wait" else 3)

    def _end_outage(self) -> None:
        self.fleet.faults.api_gone = False

    async def live(self, seconds: int) -> None:
        for _ in range(seconds):
            try:
                await self.manager.tick()
            except Crash:
                self.leadership.hand_over()
                self.manager = self.controller(PoolPlanner())
            await self.fleet.clock.run_for(1.0)
            self.check()
            self.check_bounds()

    def check_bounds(self) -> None:
        """What the manager wants never leaves the pool's bounds."""
        wanted = [
            node.desired[gpu.pci_address][0]
            for node in self.fleet.world.nodes.values()
            for gpu in node.gpus
            if gpu.pci_address in node.desired
        ]
        if len(wanted) < NODES * GPUS:
            return
        for mode in Mode:
            side = self.pool.side(mode)
            count = wanted.count(mode)
            assert count >= side.min, f"{count} {mode} GPUs wanted, minimum {side.min}"
            assert side.max is None or count <= side.max, f"{count} {mode} GPUs wanted, maximum {side.max}"


async def weather(pool: Pool, events: list[tuple[str, int, float]]) -> None:
    storm = Storm(pool)
    for event in events:
        await storm.happen(*event)
    await calm(storm)


async def calm(storm: Storm) -> None:
    """After the storm: all moves end, every node opens, no GPU is left between the modes."""
    storm.fleet.faults.crash_at.clear()
    storm.fleet.faults.fail_at.clear()
    storm.fleet.faults.api_gone = False
    await storm.live(1_200)
    for node in storm.fleet.world.nodes.values():
        assert node.transition is None, f"{node.name} never finished: {node.transition}"
        assert not node.unschedulable, f"{node.name} was left cordoned"
        assert not node.sharing.fence, f"{node.name} was left fenced"
        for gpu in node.gpus:
            assert gpu.mode is node.desired[gpu.pci_address][0], (
                f"{gpu.pci_address} is not where it is wanted"
            )


# A shrunk example would take minutes; the one that failed is printed.
@pytest.mark.sweep
@settings(
    max_examples=12,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(
    events=st.lists(happenings, min_size=5, max_size=25),
    minimum=st.integers(0, 3),
    in_flight=st.integers(1, 4),
    eviction=st.sampled_from(EvictionRule),
    cooldown=st.sampled_from([0, 60, 300]),
)
def test_promises_hold_in_any_weather(events, minimum, in_flight, eviction, cooldown) -> None:
    pool = Pool(
        PoolName("a10"),
        models=(A10,),
        shared=SideLimits(min=minimum),
        passthrough=SideLimits(max=NODES * GPUS - 2),
        max_in_flight=in_flight,
        eviction=eviction,
        cooldown_seconds=cooldown,
    )
    asyncio.run(weather(pool, events))
