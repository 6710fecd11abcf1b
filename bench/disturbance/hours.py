"""The live manager on a simulated fleet for hours of virtual time, with demand on both sides and everything that makes moves
fail: agents that die, are cut off or stand still for seconds to hours, and GPUs that some process clings to.

Equal arguments, equal figures.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from poolmgr.controller.interfaces import Dependencies
from poolmgr.controller.loop import Controller, LoopSettings
from poolmgr.domain.backoff import CLOSED_SECONDS_AN_HOUR, HOUR, PLUGIN_STOPS_AN_HOUR
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.actuators import FixedLeadership, MemoryLedger
from poolmgr.sim.agent import SimAgents
from poolmgr.sim.fleet import A10, A10_RESOURCE, NodeShape, SimulatedFleet
from poolmgr.sim.world import PodRequest, SimNode, VmRequest

SILENCES = (
    (SimAgents.kill, SimAgents.start),
    (SimAgents.cut_off, SimAgents.reconnect),
    (SimAgents.freeze, SimAgents.thaw),
)
LAST_MOVE_SECONDS = 900.0
"""What a move that begins just within the bound may add: two silences and the way back."""
HEADINGS = (
    "node",
    "GPUs clung to",
    "silent, s/h",
    "plugin stops/h",
    "worst hour",
    "cordoned, s/h",
    "plugin absent, s/h",
    "worst hour, s",
)


@dataclass
class NodeCost:
    """What one node was put to, by the hour of virtual time."""

    node: NodeName
    clung_to: int
    silent: list[float] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    cordoned: list[float] = field(default_factory=list)
    absent: list[float] = field(default_factory=list)

    @property
    def within_bounds(self) -> bool:
        return (
            max(self.stops) <= PLUGIN_STOPS_AN_HOUR
            and max(self.absent) <= CLOSED_SECONDS_AN_HOUR + LAST_MOVE_SECONDS
        )

    def row(self) -> tuple[str, ...]:
        """Under `HEADINGS`."""
        hours = len(self.stops)
        means = [sum(values) / hours for values in (self.silent, self.cordoned, self.absent)]
        return (
            self.node,
            str(self.clung_to),
            f"{means[0]:.0f}",
            f"{sum(self.stops) / hours:.1f}",
            str(max(self.stops)),
            f"{means[1]:.0f}",
            f"{means[2]:.0f}",
            f"{max(self.absent):.0f}",
        )


class Hours:
    """One run. `nodes` of four GPUs; a third of the nodes have two that cannot be rebound."""

    def __init__(self, nodes: int, seed: int, hami: tuple[int, int] = (2, 10)) -> None:
        pool = Pool(PoolName("a10"), models=(A10,), max_in_flight=nodes, cooldown_seconds=120)
        self.fleet = SimulatedFleet([NodeShape(nodes, 4)], (pool,), start=HOUR, hami_version=hami)
        self._chance = Random(seed)
        self.costs = {}
        for number, node in enumerate(self.fleet.world.nodes.values()):
            held = node.gpus[:2] if number % 3 == 0 else []
            self.fleet.agents.clung_to |= {(node.name, gpu.pci_address) for gpu in held}
            self.costs[node.name] = NodeCost(node.name, len(held))
        actuators = self.fleet.actuators
        self._controller = Controller(
            Dependencies(
                clock=self.fleet.clock,
                view=self.fleet,
                fleet=actuators,
                sharing=actuators,
                services=actuators,
                evictor=actuators,
                admitter=actuators,
                recorder=actuators,
                ledger=MemoryLedger(keep_samples=1),
                leadership=FixedLeadership(),
                reporter=actuators,
                reservations=actuators.reservations,
            ),
            PoolPlanner(),
            LoopSettings(),
        )

    async def run(self, hours: int) -> tuple[NodeCost, ...]:
        """Raises AssertionError where a promise is broken: a GPU offered twice, taken from a user, or lost."""
        end = self.fleet.clock.now() + hours * HOUR
        self.fleet.kube.schedule(self._demand(self.fleet.clock.now(), end))
        for name in self.costs:
            self._silence_later(name)
        for _ in range(hours):
            self._begin_hour()
            for _ in range(int(HOUR)):
                await self._second()
        return tuple(self.costs.values())

    def _begin_hour(self) -> None:
        for cost in self.costs.values():
            for column in (cost.silent, cost.cordoned, cost.absent):
                column.append(0.0)
            cost.stops.append(0)

    async def _second(self) -> None:
        wanted = {name: node.sharing.wanted for name, node in self.fleet.world.nodes.items()}
        await self._controller.tick()
        await self.fleet.clock.run_for(1.0)
        assert not self.fleet.world.violations, self.fleet.world.violations
        assert not self.fleet.lost_gpus(), self.fleet.lost_gpus()
        for node in self.fleet.world.nodes.values():
            self._count(node, stopped=wanted[node.name] and not node.sharing.wanted)

    def _count(self, node: SimNode, *, stopped: bool) -> None:
        cost = self.costs[node.name]
        cost.silent[-1] += not node.speaks
        cost.stops[-1] += stopped
        cost.cordoned[-1] += node.unschedulable
        # A node that has given all its GPUs to VMs has nothing to list.
        serves = any(mode is Mode.SHARED for mode, _ in node.desired.values())
        cost.absent[-1] += serves and not node.sharing.ready

    def _demand(self, begin: float, end: float) -> Iterable[VmRequest | PodRequest]:
        """As much as half of the GPUs for VMs and a third for pods, which come and go within the hour."""
        gpus = 4 * len(self.costs)
        at = begin
        for number in range(10**6):
            at += self._chance.expovariate(gpus / 2_400.0)
            if at > end:
                return
            lasts = self._chance.uniform(300.0, 2_400.0)
            if self._chance.random() < 0.6:
                yield VmRequest(f"desk-{number}", at, lasts, A10_RESOURCE, patience_seconds=1_800.0)
            else:
                yield PodRequest(f"work-{number}", at, lasts, 12_000, 50)

    def _silence_later(self, name: NodeName) -> None:
        """Every twenty minutes or so, for half a minute to two hours, short ones far more often."""
        wait = self._chance.expovariate(1 / 1_200.0)
        lasts = min(7_200.0, 30.0 * self._chance.paretovariate(0.6))
        fall, rise = self._chance.choice(SILENCES)

        def begin() -> None:
            fall(self.fleet.agents, name)
            self.fleet.clock.call_later(lasts, stop)

        def stop() -> None:
            rise(self.fleet.agents, name)
            self._silence_later(name)

        self.fleet.clock.call_later(wait, begin)
