"""Hours of a fleet on which agents die, lie still and come back, and some GPUs cannot be rebound: what that costs each node.

Counted at HAMi's own state in the simulated world, not by what the manager has noted of it. Seconds are of the virtual clock.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from poolmgr.domain.backoff import CLOSED_SECONDS_AN_HOUR, HOUR, PLUGIN_STOPS_AN_HOUR
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName, PlanId, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10, A10_RESOURCE
from poolmgr.sim.world import PodRequest, SimNode, VmRequest
from tests.unit.controller.rig import Rig
from tests.unit.controller.test_moves_of_silent_agents import SILENCES

pytestmark = pytest.mark.long

HOURS = 6
TICK_SECONDS = 2.0
NODES, GPUS = 6, 4
CLUNG_TO = {1: range(GPUS), 2: range(2), 3: range(1)}
"""Number of a node → its GPUs that somebody has open again at every last look. The other nodes have none such."""
WAVE_SECONDS = 1_200
"""First VMs come for so long, then containers: GPUs are wanted on one side, then on the other."""
LAST_MOVE_SECONDS = 300.0
"""A move that has begun within the bound may run on past it."""


@dataclass
class Watch:
    """What one node is put to."""

    stops: list[float] = field(default_factory=list)
    """When HAMi's plugin was sent away."""
    closed: list[float] = field(default_factory=list)
    """Each instant at which no pod could come onto GPUs of the node that stay shared, every `TICK_SECONDS`."""
    for_nothing: list[float] = field(default_factory=list)
    """When a move was undone for which the plugin had been sent away."""
    arrived: int = 0
    """Moves that ended where they were to."""
    stopped_for: set[PlanId] = field(default_factory=set)
    away: bool = False
    under_way: PlanId | None = None
    undone: bool = False

    def look(self, node: SimNode, now: float) -> None:
        move = node.transition
        if move is None or move.plan_id != self.under_way:
            self.arrived += self.under_way is not None and not self.undone
            self.under_way, self.undone = (move.plan_id if move else None), False
        away = not node.sharing.wanted
        if away and not self.away:
            self.stops.append(now)
            if move is not None and not move.rollback:
                self.stopped_for.add(move.plan_id)
        self.away = away
        stays = any(gpu.mode is Mode.SHARED is node.desired[gpu.pci_address][0] for gpu in node.gpus)
        if stays and (away or not node.sharing.ready or node.unschedulable):
            self.closed.append(now)
        if move is not None and move.rollback and not self.undone:
            self.undone = True
            if move.plan_id in self.stopped_for:
                self.for_nothing.append(now)


def most_in_an_hour(instants: list[float]) -> int:
    first = most = 0
    for last, at in enumerate(instants):
        while instants[first] <= at - HOUR:
            first += 1
        most = max(most, last - first + 1)
    return most


class Hours(Rig):
    """Demand in waves, and agents that come and go, drawn from a seed."""

    def __init__(self, seed: int, hami: tuple[int, int]) -> None:
        pool = Pool(PoolName("a10"), models=(A10,), max_in_flight=4, cooldown_seconds=60)
        super().__init__(nodes=NODES, gpus=GPUS, pools=(pool,), hami_version=hami)
        self.random = random.Random(seed)
        self.manager = self.controller(PoolPlanner())
        self.watches = {name: Watch() for name in self.fleet.world.nodes}
        self.silences: Counter[str] = Counter()
        for number, gpus in CLUNG_TO.items():
            name = NodeName(f"node-{number}")
            self.fleet.agents.clung_to |= {(name, self.address(i, name)) for i in gpus}
        for name in self.fleet.world.nodes:
            self._until_silent(name)

    def _until_silent(self, name: NodeName) -> None:
        self.fleet.clock.call_later(self.random.uniform(300, 2_400), lambda: self._fall_silent(name))

    def _fall_silent(self, name: NodeName) -> None:
        how = self.random.choice(sorted(SILENCES))
        self.silences[how] += 1
        begin, end = SILENCES[how]
        begin(self.fleet.agents, name)

        def back() -> None:
            end(self.fleet.agents, name)
            self._until_silent(name)

        self.fleet.clock.call_later(self.random.choice((10, 90, 300, 1_200)), back)

    def _demand(self, second: float) -> None:
        now, name = self.fleet.clock.now(), f"{second:.0f}"
        lasts = self.random.uniform(300, WAVE_SECONDS)
        if second // WAVE_SECONDS % 2 == 0:
            self.fleet.kube.create_vm(VmRequest(f"vm-{name}", now, lasts, A10_RESOURCE))
        else:
            self.fleet.kube.create_pod(PodRequest(f"pod-{name}", now, lasts, 23_000, 100))

    async def pass_by(self, hours: float) -> None:
        next_demand = 0.0
        for tick in range(int(hours * HOUR / TICK_SECONDS)):
            second = tick * TICK_SECONDS
            if second >= next_demand:
                self._demand(second)
                next_demand = second + self.random.uniform(20, 120)
            await self.run(self.manager, TICK_SECONDS, every=TICK_SECONDS)
            for name, node in self.fleet.world.nodes.items():
                self.watches[name].look(node, self.fleet.clock.now())


@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
async def test_what_hours_of_dying_agents_and_stubborn_gpus_cost_each_node(hami, record_property) -> None:
    fleet = Hours(15, hami)
    await fleet.pass_by(HOURS)
    most: dict[str, tuple[int, float, int]] = {}
    for name, watch in fleet.watches.items():
        closed = most_in_an_hour(watch.closed) * TICK_SECONDS
        most[name] = (most_in_an_hour(watch.stops), closed, most_in_an_hour(watch.for_nothing))
        record_property(
            name,
            f"in {HOURS} hours {watch.arrived} moves arrived, {len(watch.for_nothing)} in vain; in the worst hour "
            f"{most[name][0]} stops of the plugin, {closed:.0f} s closed",
        )
    record_property("silences", str(dict(fleet.silences)))
    for stops, closed, for_nothing in most.values():
        assert stops <= PLUGIN_STOPS_AN_HOUR, most
        assert closed <= CLOSED_SECONDS_AN_HOUR + LAST_MOVE_SECONDS, most
        assert for_nothing <= 1, most
    stubborn = fleet.watches[NodeName("node-1")].for_nothing
    assert 2 <= len(stubborn) <= 3, "pauses of one, two and four hours"
    assert set(fleet.silences) == set(SILENCES), fleet.silences
    assert sum(watch.arrived for watch in fleet.watches.values()) >= 2 * HOURS, "and GPUs moved all the while"
