"""Observe, plan, verify, act: the manager's loop.

Level-triggered: every tick starts from the whole observed world and needs nothing from the tick before, so a
crash or a change of leader at any point is just a longer pause between two ticks. The loop never acts on a
view that is unsynced, old, or behind its own writes, nor without holding the lease.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from poolmgr.controller import guard, intents
from poolmgr.controller.event_reporter import EventReporter
from poolmgr.controller.executor.advance import StepDeadlines, next_action
from poolmgr.controller.executor.execute import Executor, Outcome
from poolmgr.controller.interfaces import (
    Clock,
    ClusterView,
    Evictor,
    FleetActuator,
    Leadership,
    Ledger,
    PoolReporter,
    Recorder,
    SharingActuator,
)
from poolmgr.controller.lending import Lending
from poolmgr.controller.pace import Pace
from poolmgr.controller.pool_plan import of_pool
from poolmgr.controller.side_by_side import side_by_side
from poolmgr.controller.silence import note_silence
from poolmgr.controller.status import pool_statuses
from poolmgr.controller.unserved import Unserved
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.census import Census, CensusCache
from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName, PciAddress
from poolmgr.domain.plan import Move, Plan, Refusal, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Planner

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside that the controller calls, composed once by the process that runs it."""

    clock: Clock
    view: ClusterView
    fleet: FleetActuator
    sharing: SharingActuator
    evictor: Evictor
    recorder: Recorder
    ledger: Ledger
    leadership: Leadership
    reporter: PoolReporter


@dataclass(frozen=True, slots=True)
class LoopSettings:
    idle_seconds: float = 10.0
    """Longest pause between ticks while nothing moves."""
    busy_seconds: float = 1.0
    """Longest pause in seconds between two looks at the cluster while something moves or waits."""
    settle_seconds: float = 1.0
    """Changes that nobody waits for are gathered for so long before they are planned for."""
    stale_after_seconds: float = 60.0
    """A snapshot older than this is not acted on."""
    sample_seconds: float = 60.0
    """Between two demand samples for the chart, and between two looks of a standby that only learns."""
    learned_state_seconds: float = 300.0
    """Between two times that what the planner has learned is kept: weeks of demand, so not at every sample."""
    deadlines: StepDeadlines = field(default_factory=StepDeadlines)


@dataclass(frozen=True, slots=True)
class RebalanceResult:
    """What a rebalance came to: the plan restricted to the pool, and what of it was started."""

    plan: Plan
    started: tuple[Move, ...]
    refused: tuple[Refusal, ...]
    dry_run: bool


class Controller:
    """One manager. `tick` is the whole loop's work; `run` repeats it."""

    def __init__(
        self, dependencies: Dependencies, planner: Planner, settings: LoopSettings | None = None
    ) -> None:
        self._dependencies = dependencies
        self._planner = planner
        self._settings = settings or LoopSettings()
        self._executor = Executor(
            dependencies.fleet, dependencies.sharing, dependencies.evictor, dependencies.leadership
        )
        self._lending = Lending(dependencies.sharing, dependencies.leadership)
        self._reporter = EventReporter(dependencies.ledger, dependencies.recorder)
        self._unserved = Unserved()
        self._lock = asyncio.Lock()
        self._learned: Any = None
        self._learned_loaded = False
        self._recalled_at = self._sampled_at = self._learnt_at = float("-inf")
        self._kept_at = dependencies.clock.monotonic()
        self._pace = Pace(self._settings.settle_seconds)
        self._superseded: dict[NodeName, str] = {}
        self._at_rest: dict[NodeName, Node] = {}
        self._census_cache = CensusCache()
        self._census: Census | None = None
        self.snapshot: ClusterSnapshot | None = None
        """The newest view, for readers such as the API."""
        self.unforeseen = 0
        """Exceptions that were met and are a defect of this program; each is in the log with its traceback."""
        self.plan: Plan | None = None
        """The newest decision."""
        self.readiness = Verdict(False, Reason.NOT_SYNCED, "the manager has not read the cluster yet")
        """Whether this manager acts, and if not, why."""

    @property
    def census(self) -> Census | None:
        """`snapshot`, counted."""
        return self._counted(self.snapshot) if self.snapshot is not None else None

    def _counted(self, snapshot: ClusterSnapshot) -> Census:
        """Once for each snapshot, by whoever asks first."""
        if self._census is None or self._census.snapshot is not snapshot:
            self._census = self._census_cache.take(snapshot)
        return self._census

    async def run(self) -> None:
        """Tick until cancelled. No error ends the loop: one odd object would end it again at each start."""
        clock, pace = self._dependencies.clock, self._pace
        while True:
            begun = clock.monotonic()
            planned = False
            try:
                planned = await self._tick()
            except PoolError as error:
                log.warning("tick_failed", reason=error.reason.value, message=error.message)
            except Exception:  # noqa: BLE001 - see above
                self._unforeseen("tick_failed")
            if planned:
                # Whatever comes, half of the time is left to those who read.
                await clock.sleep(min(clock.monotonic() - begun, self._settings.settle_seconds))
            longest = self._settings.busy_seconds if self._busy() else self._settings.idle_seconds
            now = clock.monotonic()
            await self._dependencies.view.wait_for_change(
                pace.pause(self.snapshot, now, longest), settle_seconds=pace.settles_in(now)
            )

    def _busy(self) -> bool:
        """Something moves or waits, or this manager may be about to act: neither a complete view nor the lease is
        something that changes in the view."""
        seen = self.snapshot
        return (
            seen is None
            or not self.readiness
            or bool(seen.transitions)
            or any(vm.node is None for vm in seen.vms)
        )

    async def tick(self) -> None:
        """Look once and do what there is to do now, planning included."""
        await self._tick(planning=True)

    async def _tick(self, *, planning: bool = False) -> bool:
        """The same, planning only if it is due or `planning`. Whether it was done."""
        async with self._lock:
            snapshot = await self._observe()
            now = self._dependencies.clock.monotonic()
            if not self.readiness:
                self._pace.looked(snapshot, now)
                await self._learn(snapshot)
                return False
            await note_silence(snapshot.nodes, self._dependencies.fleet, self._reporter)
            restless = self._restless(snapshot)
            await self._adopt(restless)
            await self._repair(restless)
            # Who has just come does not wait for the steps of others: each takes some requests.
            first = self._pace.is_urgent(snapshot)
            if not first:
                await self._advance(restless, snapshot)
            due = planning or first or self._pace.is_due(now)
            if due:
                self._pace.planned(snapshot, now)
                await self._decide(snapshot)
            if first:
                # Deciding took its time: a step rests on what is so now. Nodes just written to wait for the next look.
                fresh = await self._dependencies.view.snapshot()
                if fresh.synced:
                    await self._advance(self._restless(fresh), fresh)
            return due

    async def _decide(self, snapshot: ClusterSnapshot) -> None:
        """Plan, start what the plan says, and tell everybody."""
        decision = self._planner.decide(snapshot, await self._recall())
        self._learned, self.plan = decision.learned, decision.plan
        self._unserved.follow(decision.plan, snapshot)
        started: tuple[Move, ...] = ()
        if decision.plan.to_start:
            started, refused = await self._start(decision.plan.to_start, decision.plan)
            await self._reporter.refusals(refused)
        await self._reporter.plan(decision.plan, started)
        lent = await self._lending.follow(decision.plan.best_effort_only, snapshot)
        await self._reporter.lending(lent)
        await self._report(snapshot)

    async def request_rebalance(
        self, pool: str, *, dry_run: bool, generation: int | None = None
    ) -> RebalanceResult:
        """Plan for one pool now and, unless `dry_run`, start what the plan says.

        An operator's word counts as Automatic for this once. Raises Rejected (no such pool), Stale (the pool
        is at another generation than the caller saw, or this manager does not lead), Unavailable (no
        trustworthy view yet). In all those cases nothing is changed.
        """
        async with self._lock:
            snapshot = await self._observe()
            if self.readiness.reason in (Reason.NOT_SYNCED, Reason.STALE_SNAPSHOT):
                raise Unavailable(self.readiness.reason, self.readiness.message)
            found = next((p for p in snapshot.pools if p.name == pool), None)
            if found is None:
                have = ", ".join(sorted(p.name for p in snapshot.pools)) or "none"
                raise Rejected(Reason.POOL_NOT_FOUND, f"there is no pool {pool!r}; the cluster has: {have}")
            if generation is not None and generation != found.generation:
                raise Stale(
                    Reason.STALE_GENERATION,
                    f"pool {pool} is at generation {found.generation}, and you saw {generation}; read it again "
                    "and repeat the request",
                )
            if not dry_run and not self.readiness:
                raise Unavailable(self.readiness.reason, self.readiness.message)
            view = guard.operator_view(snapshot, pool)
            plan = of_pool(self._planner.decide(view, await self._recall()).plan, pool, view)
            accepted, refused = guard.validate(plan.moves, view)
            if dry_run:
                return RebalanceResult(plan, accepted, refused, True)
            started, refused = await self._start(plan.moves, plan, asked_for=pool)
            await self._reporter.plan(plan, started)
            return RebalanceResult(plan, started, refused, False)

    async def request_retry(
        self, node: str, devices: tuple[str, ...], *, dry_run: bool
    ) -> tuple[Backoff, ...]:
        """End the pauses of these GPUs and of their node, or all of the node's where none is named; whose ended.

        Raises Rejected (no such node or GPU), Stale (the node changed meanwhile: ask again) or Unavailable (this manager
        does not act, or a move is under way there). In all those cases nothing is changed.
        """
        async with self._lock:
            snapshot = await self._observe()
            if not self.readiness:
                raise Unavailable(self.readiness.reason, self.readiness.message)
            found = next((n for n in snapshot.nodes if n.name == node), None)
            if found is None:
                raise Rejected(Reason.NOT_FOUND, f"there is no node {node!r} with an agent")
            missing = [d for d in devices if found.gpu(PciAddress(d)) is None]
            if missing:
                have = ", ".join(gpu.pci_address for gpu in found.gpus) or "none"
                raise Rejected(Reason.NOT_FOUND, f"{node} has no GPU {missing[0]}; it has: {have}")
            if found.transition is not None:
                raise Unavailable(
                    Reason.NODE_IN_TRANSITION,
                    f"GPUs of {node} are moving; ask again when that is over",
                    retry_after_seconds=30.0,
                )
            intent = intents.retried(found, ",".join(devices) or "all")
            ended = tuple(b for b in found.backoffs if b not in intent.backoffs)
            if ended and not dry_run:
                await self._executor.write(found, intent)
                self._superseded[found.name] = found.revision
            return ended

    async def _observe(self) -> ClusterSnapshot:
        snapshot = self._unserved.applied(await self._dependencies.view.snapshot())
        self.snapshot = snapshot
        self.readiness = self._readiness(snapshot)
        now = self._dependencies.clock.monotonic()
        if snapshot.synced and now - self._sampled_at >= self._settings.sample_seconds:
            self._sampled_at = now
            await self._reporter.sample(self._counted(snapshot))
        if self._learned_loaded and now - self._kept_at >= self._settings.learned_state_seconds:
            self._kept_at = now
            if self._learned is not None:
                await self._reporter.save_learned_state(self._planner.name, self._learned)
        return snapshot

    def _readiness(self, snapshot: ClusterSnapshot) -> Verdict:
        if not snapshot.synced:
            return Verdict(
                False, Reason.NOT_SYNCED, "the view of the cluster is not complete yet; nothing is moved"
            )
        age = self._dependencies.clock.now() - snapshot.taken_at
        if age > self._settings.stale_after_seconds:
            return Verdict(
                False, Reason.STALE_SNAPSHOT, f"the view of the cluster is {age:.0f} s old; nothing is moved"
            )
        if self._dependencies.leadership.epoch is None:
            return Verdict(False, Reason.NOT_LEADER, self._dependencies.leadership.not_leading_message)
        behind = [n.name for n in snapshot.nodes if n.revision and self._superseded.get(n.name) == n.revision]
        if behind:
            return Verdict(
                False,
                Reason.NOT_SYNCED,
                f"the view has not caught up with this manager's writes to {behind[0]}",
            )
        self._superseded.clear()
        return Verdict(True, Reason.ADMITTED, "leading")

    def _restless(self, snapshot: ClusterSnapshot) -> list[Node]:
        """The nodes where there may be something to do. Those that are the very same values as when there was nothing
        are not looked at again: of thousands a few change from tick to tick."""
        before, self._at_rest = self._at_rest, {}
        restless = []
        for node in snapshot.nodes:
            if before.get(node.name) is node or self._is_at_rest(node):
                self._at_rest[node.name] = node
            else:
                restless.append(node)
        return restless

    def _is_at_rest(self, node: Node) -> bool:
        try:
            return intents.at_rest(node)
        except Exception:  # noqa: BLE001 - no node stops another
            self._unforeseen("node_not_understood", node=node.name)
            return False

    async def _adopt(self, nodes: list[Node]) -> None:
        async def adopt(node: Node) -> None:
            intent = intents.heeded(node) or (intents.adopt(node) if node.transition is None else None)
            if intent is not None:
                self._note(node, await self._executor.write(node, intent))

        await self._on_each(nodes, adopt)

    async def _repair(self, nodes: list[Node]) -> None:
        async def repair(node: Node) -> None:
            if node.name in self._superseded:
                return
            intent = intents.repair(node, self._executor.epoch(), self._dependencies.clock.now())
            if intent is None or intent.transition is None:
                return
            log.info("repair_started", node=node.name, message=intent.transition.message)
            self._note(node, await self._executor.write(node, intent))

        await self._on_each(nodes, repair)

    async def _advance(self, nodes: list[Node], snapshot: ClusterSnapshot) -> None:
        async def advance(node: Node) -> None:
            transition = node.transition
            if transition is None or node.name in self._superseded:
                return
            if transition.epoch != self._executor.epoch():
                self._note(node, await self._executor.take_over(node))
                return
            action = next_action(node, snapshot, self._settings.deadlines)
            outcome = await self._executor.carry_out(node, action, self._dependencies.clock.now())
            self._note(node, outcome)
            await self._reporter.step(transition, outcome, self._dependencies.clock.now())

        await self._on_each(nodes, advance)

    async def _start(
        self, moves: tuple[Move, ...], plan: Plan, *, asked_for: str = ""
    ) -> tuple[tuple[Move, ...], tuple[Refusal, ...]]:
        """Verify against a snapshot taken now, then write one intent per node. `asked_for`: the pool whose moves an
        operator asked for."""
        fresh = guard.operator_view(await self._dependencies.view.snapshot(), asked_for)
        accepted, refused = guard.validate(moves, fresh)
        groups = intents.by_node(accepted)
        started: set[NodeName] = set()

        async def start(node: Node) -> None:
            if node.name in self._superseded:
                return
            group, epoch = groups[node.name], self._executor.epoch()
            intent = intents.begin(node, group, plan.plan_id, epoch, self._dependencies.clock.now())
            self._note(node, await self._executor.write(node, intent))
            started.add(node.name)

        nodes = {node.name: node for node in fresh.nodes}
        await self._on_each([nodes[NodeName(name)] for name in groups], start)
        return tuple(m for name, group in groups.items() if name in started for m in group), refused

    async def _on_each(self, nodes: Iterable[Node], work: Callable[[Node], Awaitable[None]]) -> None:
        """Do `work` on every node, several side by side. Whatever goes wrong with one, be it in deciding what to do,
        concerns that node and this tick only."""

        async def guarded(node: Node) -> None:
            try:
                await work(node)
            except Stale as error:
                log.info("write_lost_race", node=node.name, reason=error.reason.value, message=error.message)
            except PoolError as error:
                log.warning("step_failed", node=node.name, reason=error.reason.value, message=error.message)
            except Exception:  # noqa: BLE001 - no node stops another
                self._unforeseen("step_failed", node=node.name)

        await side_by_side(nodes, guarded)

    def _note(self, node: Node, outcome: Outcome) -> None:
        """The view of the node is behind until it shows what was written."""
        if outcome.wrote_intent:
            self._superseded[node.name] = node.revision

    def _unforeseen(self, event: str, **about: str) -> None:
        """To be called where an exception is handled that nothing here raises on purpose."""
        self.unforeseen += 1
        log.exception(event, **about)

    async def _learn(self, snapshot: ClusterSnapshot) -> None:
        """A standby sees the same demand as the leader: what it learns of it spares a takeover the first days."""
        now = self._dependencies.clock.monotonic()
        if (
            self.readiness.reason is Reason.NOT_LEADER
            and now - self._learnt_at >= self._settings.sample_seconds
        ):
            self._learnt_at = now
            self._learned = self._planner.decide(snapshot, await self._recall()).learned

    async def _recall(self) -> Any:
        """What the planner remembers. While the ledger cannot be read it goes on with what it has learnt since, and
        nothing is kept, so that weeks are not overwritten with minutes."""
        now = self._dependencies.clock.monotonic()
        if not self._learned_loaded and now - self._recalled_at >= self._settings.sample_seconds:
            self._recalled_at = now
            found = await self._reporter.load_learned_state(self._planner.name)
            if found is not None:
                self._learned_loaded = True
                self._learned = self._learned if found[0] is None else found[0]
        return self._learned

    async def _report(self, snapshot: ClusterSnapshot) -> None:
        statuses = pool_statuses(self._counted(snapshot), self.plan)
        for pool in snapshot.pools:
            try:
                await self._dependencies.reporter.report(pool, statuses[pool.name])
            except PoolError as error:
                log.warning("pool_status_not_written", pool=pool.name, message=error.message)
