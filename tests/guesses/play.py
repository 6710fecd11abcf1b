"""The real agent and the real manager on one world: they report, plan, verify and act until nothing goes on."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from poolmgr import wire
from poolmgr.agent.apiserver import ApiServer
from poolmgr.agent.journal import Journal
from poolmgr.agent.node_agent import NodeAgent
from poolmgr.agent.report import Reporter
from poolmgr.agent.status import NodeFacts
from poolmgr.cluster.actuate import KubernetesFleet
from poolmgr.cluster.gpu_operator.actuate import KubernetesServices
from poolmgr.cluster.hami.actuate import KubernetesSharing
from poolmgr.cluster.node_writer import NodeWriter
from poolmgr.controller.interfaces import Dependencies
from poolmgr.controller.loop import Controller
from poolmgr.domain.errors import PoolError
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import Step
from poolmgr.domain.plan import Plan
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.actuators import FixedLeadership, MemoryLedger
from poolmgr.wire.text import listed
from tests.fake_node import FakeClock
from tests.guesses.in_cluster import NODE, WorldCluster
from tests.guesses.on_node import WorldNode, address_of, hamis_uuid
from tests.guesses.world import TOLD_TO_THE_MANAGER, W, World
from tests.unit.cluster.builders import CREATED_AT, as_wire
from tests.unit.cluster.builders import plugin as hamis_plugin

ROUNDS = 24
"""Looks of the manager, each followed by one of the agent: a move to vfio-pci takes 14."""
ROUND_SECONDS = 4.0
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where a node of files costs no disk."""
QUIET_ROUNDS = 4
"""Without a move under way, after which none is expected any more."""


@dataclass
class Outcome:
    planned: frozenset[int] = frozenset()
    closed: frozenset[int] = frozenset()
    """Taken out of use for a move, by HAMi's device cordon or by being withdrawn from the kubelet."""
    unbound: frozenset[int] = frozenset()
    detached: frozenset[int] = frozenset()
    """For which HAMi's plugin was stopped, and the agent then asked to rebind them."""
    arrived: frozenset[int] = frozenset()
    """Whose use came in the midst of a move, or of its planning."""

    def broken(self, world: World, absent: Collection[int]) -> list[str]:
        """What was done to a GPU that is truly used although somebody could have told. `absent`: GPUs whose use never
        came."""
        said = []
        for use in world.owed:
            if use.gpu in absent:
                continue
            done = {"unbound": self.unbound}
            if use.gpu not in self.arrived and not use.kind.asked_last:
                done |= {"planned": self.planned, "closed": self.closed}
            elif use.gpu in self.arrived and use.tells & TOLD_TO_THE_MANAGER:
                # Whoever looks next sees it: guard, or the executor before it disturbs HAMi.
                done |= {"closed": self.closed} if use.arrives is Step.INTEND else {}
                done |= {"detached": self.detached} if use.arrives not in (Step.DETACH, Step.REBIND) else {}
            said += [f"{what} under {use}" for what, gpus in done.items() if use.gpu in gpus]
        return said


class Nothing:
    """Events and statuses, which nobody here reads."""

    async def event(self, *args: Any, **named: Any) -> None: ...

    async def report(self, *args: Any) -> None: ...

    async def ensure_admitted(self, *args: Any) -> None: ...

    async def evict(self, *args: Any) -> Any:
        raise AssertionError(f"no pool here allows an eviction: {args}")


class Overheard(PoolPlanner):
    """The planner, and somebody who hears what it has decided before anybody acts on it."""

    def __init__(self, told: Callable[[Plan], None]) -> None:
        super().__init__()
        self._told = told

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        decision = super().decide(snapshot, learned)
        self._told(decision.plan)
        return decision


class Play:
    def __init__(self, root: Path, world: World) -> None:
        self.world = world
        self.clock = FakeClock(CREATED_AT + 3_600)
        self.node = WorldNode(root, world)
        self.cluster = WorldCluster(world, self.clock)
        self.api = self.cluster.client_of_agent(self.clock)
        self.agent = self._agent(self.api)
        self.planner = Overheard(self._planned)
        self.controller = self._controller()
        self.outcome = Outcome()
        self.late = {use.gpu: use for use in self.world.uses if use.arrives is not None}
        """By GPU, those that have not come yet."""
        self._alive = True

    def _agent(self, api: ApiServer) -> NodeAgent:
        node = self.node
        journal = Journal(node.node.state_dir / "journal.json", lambda path, content: None)
        journal.load(node.node.boot_id)
        sources = node.sources()
        observer = sources.observer(node.plugins)
        reporter = Reporter(NodeFacts(node.node.boot_id, "6.1", "0.1.0"))
        rebinder = sources.rebinder(observer)
        return NodeAgent(
            NODE, api, observer, rebinder, node.plugins, node.nvml, journal, reporter, self.clock
        )

    def _controller(self) -> Controller:
        cluster, leads, nothing = self.cluster, FixedLeadership(), Nothing()
        writer = NodeWriter(cluster.client, leads)
        sharing = KubernetesSharing(
            writer,
            version=lambda node: (2, 10),
            plugin=lambda: as_wire(hamis_plugin(), wire.DaemonSet),
            plan_of=lambda node: "plan",
        )
        return Controller(
            Dependencies(
                clock=self.clock,
                view=cluster,
                fleet=KubernetesFleet(cluster.client, leads, lambda over, written: None),
                sharing=sharing,
                services=KubernetesServices(writer),
                evictor=nothing,
                admitter=nothing,
                recorder=nothing,
                ledger=MemoryLedger(),
                leadership=leads,
                reporter=nothing,
                reservations=nothing,
            ),
            self.planner,
        )

    async def run(self) -> Outcome:
        """Until nothing goes on. Agent and manager first get to know the node, where it may be moved by nobody yet."""
        if self.world.untold is None:
            self._begin(use for use in self.world.uses if use.arrives is None)
        await self._agent_looks()
        self.cluster.hami_acts(self.node)
        await self._manager_looks()  # takes the GPUs over as they are
        if self.world.untold is not None:
            await self._stand_still()
        quiet = 0
        for _ in range(ROUNDS):
            await self._agent_looks()
            await self._manager_looks()
            if moving := self._transition():
                self._arrive(self._indices(moving["devices"]), moving["step"])
            self.cluster.hami_acts(self.node)
            self.clock.time += ROUND_SECONDS
            quiet = 0 if self._transition() else quiet + 1
            if quiet == QUIET_ROUNDS:
                break
        self.outcome.unbound = self.node.unbound()
        await self.api.close()
        return self.outcome

    async def _stand_still(self) -> None:
        """The agent has acknowledged what it is to do and is not seen again; then the uses begin."""
        await self._agent_looks()
        self._alive = False
        if self.world.untold is W.HEARTBEAT:
            self.cluster.sign = AgentSign(heard=False, since=self.clock.now() - 120, silent=True)
        else:
            self.cluster.gpu_node()["metadata"]["generation"] += 1
            self.cluster.touch_gpu_node()
        self._begin(self.world.uses)
        self.outcome = Outcome()  # what was planned before was no guess

    def _begin(self, uses: Any) -> None:
        for use in uses:
            self.node.begin(use)
            self.cluster.begin(use)

    def _planned(self, plan: Plan) -> None:
        """The planner has just decided, and the guard looks next."""
        self._arrive(self._indices(move.pci_address for move in plan.moves), Step.INTEND)

    def _arrive(self, gpus: frozenset[int], step: str) -> None:
        """Uses that begin as a move of their GPU is at this step."""
        for gpu in gpus:
            use = self.late.get(gpu)
            if use is not None and step == use.arrives:
                self.outcome.arrived |= {gpu}
                self._begin([self.late.pop(gpu)])

    async def _agent_looks(self) -> None:
        if not self._alive:
            return
        with contextlib.suppress(PoolError):  # as its loop does: the pass is over, and the next one follows
            await self.agent.reconcile(self.cluster.gpu_node())

    async def _manager_looks(self) -> None:
        await self.controller.tick()
        assert not self.controller.unforeseen
        plan, moving = self.controller.plan, self._transition()
        if plan is not None:
            self.outcome.planned |= self._indices(move.pci_address for move in plan.moves)
        if moving is not None:
            # HAMi gives out nothing of the node while its plugin is away; whoever has a GPU keeps it.
            self.outcome.closed |= self._indices(moving["devices"])
            if moving["step"] == Step.REBIND:
                self.outcome.detached |= self._indices(moving["devices"])
            return
        fenced = listed(self.cluster.node()["metadata"].get("annotations", {}).get("poolmgr.io/fenced", ""))
        self.outcome.closed |= frozenset(
            i
            for i in self.world.indices
            if {hamis_uuid(self.world, i), self.node.uuid_from_nvml(i)} & set(fenced)
        )

    def _indices(self, addresses: Any) -> frozenset[int]:
        wanted = set(addresses)
        return frozenset(i for i in self.world.indices if address_of(i) in wanted)

    def _transition(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.cluster.gpu_node()["spec"].get("transition")
        return found


def play(world: World) -> tuple[Outcome, list[str]]:
    """What was done, and what of it should not have been."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        started = Play(Path(folder), world)
        with structlog.testing.capture_logs():
            outcome = asyncio.run(started.run())
        return outcome, outcome.broken(world, started.late)
