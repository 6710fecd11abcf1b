"""Observe, plan, verify, act: the manager's loop.

Level-triggered: every tick starts from the whole observed world and needs nothing from the tick before, so a
crash or a change of leader at any point is just a longer pause between two ticks. The loop never acts on a
view that is unsynced, old, or behind its own writes, nor without holding the lease. Long, because a tick is one sequence.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from poolmgr.controller import guard, intents, operator_requests
from poolmgr.controller.admitting import Admitting
from poolmgr.controller.event_reporter import EventReporter
from poolmgr.controller.executor import conditions, services
from poolmgr.controller.executor.advance import StepDeadlines, next_action
from poolmgr.controller.executor.execute import Executor, Outcome
from poolmgr.controller.interfaces import Dependencies
from poolmgr.controller.lending import Lending
from poolmgr.controller.pace import Pace
from poolmgr.controller.planning import Planning
from poolmgr.controller.pool_plan import left_of, of_pool
from poolmgr.controller.results import RebalanceResult
from poolmgr.controller.side_by_side import side_by_side
from poolmgr.controller.silence import note_silence
from poolmgr.controller.status import pool_statuses
from poolmgr.controller.status_writing import write_pools, write_reservations
from poolmgr.controller.unoffered import Unoffered
from poolmgr.controller.unserved import Unserved
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.census import Census, CensusCache
from poolmgr.domain.directives import Directives, Request
from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Move, Plan, Refusal, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Planner

log = structlog.get_logger()


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


class Controller:
    """One manager. `tick` is the whole loop's work; `run` repeats it."""

    def __init__(
        self, dependencies: Dependencies, planner: Planner, settings: LoopSettings | None = None
    ) -> None:
        self._dependencies = dependencies
        self._settings = settings or LoopSettings()
        self._executor = Executor(
            dependencies.fleet,
            dependencies.sharing,
            dependencies.services,
            dependencies.evictor,
            dependencies.leadership,
        )
        self._lending = Lending(dependencies.sharing, dependencies.leadership)
        self._reporter = EventReporter(dependencies.ledger, dependencies.recorder)
        self._planning = Planning(
            planner,
            self._reporter,
            dependencies.clock,
            dependencies.beside,
            sample_seconds=self._settings.sample_seconds,
            save_seconds=self._settings.learned_state_seconds,
        )
        self._unserved = Unserved()
        self._unoffered = Unoffered()
        self._admitting = Admitting(dependencies.admitter, dependencies.leadership)
        self._lock = asyncio.Lock()
        self._sampled_at = float("-inf")
        self._pace = Pace(self._settings.settle_seconds)
        self._replaced: dict[NodeName, str] = {}  # revisions that we wrote over and still see
        self._at_rest: dict[NodeName, Node] = {}
        self._census_cache = CensusCache()
        self._census: Census | None = None
        self.snapshot: ClusterSnapshot | None = None
        """The newest view, for readers such as the API."""
        self.unforeseen = 0
        """Exceptions that were met and are a defect of this program; each is in the log with its traceback."""
        self.measures = self._reporter.measures
        self.readiness = Verdict(False, Reason.NOT_SYNCED, "the manager has not read the cluster yet")
        """Whether this manager acts, and if not, why."""

    @property
    def plan(self) -> Plan | None:
        """The newest decision."""
        return self._planning.plan

    @property
    def watch_ages(self) -> Mapping[str, float]:
        """Seconds since each kind that is watched was last confirmed."""
        return self._dependencies.view.ages()

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
            began = clock.monotonic()
            try:
                await self._tick()
            except PoolError as error:
                self.measures.ticks_failed += 1
                log.warning("tick_failed", reason=error.reason.value, message=error.message)
            except Exception:  # noqa: BLE001 - see above
                self._unforeseen("tick_failed")
            self.measures.tick_seconds.observe(clock.monotonic() - began)
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

    async def _tick(self, *, planning: bool = False) -> None:
        """The same, planning only if it is due or `planning`."""
        async with self._lock:
            snapshot = await self._observe()
            now = self._dependencies.clock.monotonic()
            if not self.readiness:
                self._pace.looked(snapshot, now)
                if self.readiness.reason is Reason.NOT_LEADER:
                    await self._planning.learn(snapshot)
                return
            await note_silence(snapshot.nodes, self._dependencies.fleet, self._reporter)
            await self._reporter.looked(snapshot, self._dependencies.clock.now())
            await self._reporter.driver_restarts(services.warnings(snapshot.nodes))
            restless = self._restless(snapshot)
            await self._adopt(restless)
            await self._repair(restless)
            await self._tend(restless)
            # Who has just come does not wait for the steps of others: each takes some requests.
            first = self._pace.is_urgent(snapshot)
            if not first:
                await self._advance(restless, snapshot)
            if planning or first or self._pace.is_due(now):
                self._pace.planned(snapshot, now)
                await self._decide(snapshot)
            if first:
                # Deciding took its time: a step rests on what is so now. Nodes just written to wait for the next look.
                fresh = await self._dependencies.view.snapshot()
                if fresh.synced:
                    await self._advance(self._restless(fresh), fresh)

    async def _decide(self, snapshot: ClusterSnapshot) -> None:
        """Plan, start what the plan says, and tell everybody."""
        plan = await self._planning.decide(snapshot)
        self._unserved.follow(plan, snapshot)
        started: tuple[Move, ...] = ()
        if plan.to_start:
            started, refused = await self._start(plan.to_start, plan)
            await self._reporter.refusals(refused)
        await self._reporter.plan(plan, started)
        await self._reporter.admissions(await self._admitting.follow(plan.admissions))
        lent = await self._lending.follow(plan.best_effort_only, snapshot)
        await self._reporter.lending(lent)
        await self._report(snapshot)

    async def request_rebalance(
        self, pool: str, *, dry_run: bool, generation: int | None = None
    ) -> RebalanceResult:
        """Plan for one pool now and, unless `dry_run`, start what the plan says.

        An operator's word counts as Automatic for this once. Raises Rejected (no such pool), Stale (the pool
        is at another generation than the caller saw, or this manager does not lead), Unavailable (no
        trustworthy view yet). In all those cases nothing is changed. A dry run is told from the newest plan while that is
        current.
        """
        if dry_run and (answer := await self._from_newest_plan(pool, generation)):
            return answer
        async with self._lock:
            # Whoever had the lock may have planned.
            if dry_run and (answer := await self._from_newest_plan(pool, generation)):
                return answer
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
                    f"pool {pool} is at generation {found.generation}, but the request names {generation}; read the pool "
                    "again and repeat the request",
                )
            if not dry_run and not self.readiness:
                raise Unavailable(self.readiness.reason, self.readiness.message)
            view = guard.operator_view(snapshot, pool)
            plan = of_pool(await self._planning.answer(view), pool, view)
            accepted, refused = guard.validate(plan.moves, view)
            if dry_run:
                return RebalanceResult(plan, accepted, refused, True)
            started, refused = await self._start(plan.moves, plan, asked_for=pool)
            await self._reporter.plan(plan, started)
            return RebalanceResult(plan, started, refused, False)

    async def _from_newest_plan(self, pool: str, generation: int | None) -> RebalanceResult | None:
        """What of the newest plan is still to be done; None where that has to be planned first, or refused."""
        snapshot = await self._dependencies.view.snapshot()
        found = next((p for p in snapshot.pools if p.name == pool), None)
        if not (self.readiness and snapshot.synced) or found is None:
            return None
        plan = self._planning.current(snapshot, found)
        if plan is None or generation not in (None, found.generation):
            return None
        left = left_of(of_pool(plan, pool, snapshot), snapshot)
        accepted, refused = guard.validate(left.moves, snapshot)
        return RebalanceResult(left, accepted, refused, True)

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
            found, intent, ended = operator_requests.retry(snapshot, node, devices)
            if ended and not dry_run:
                await self._executor.write(found, intent)
                self._replaced[found.name] = found.revision
            return ended

    async def change_directives(
        self, node: str, request: Request, *, dry_run: bool
    ) -> tuple[Node, Directives]:
        """Note what an operator wants of a node's GPUs; the node as it was seen, and all its directives from then on. Raises
        Rejected, Stale (ask again) or Unavailable (this manager does not act). Then nothing is changed."""
        async with self._lock:
            snapshot = await self._observe()
            if not self.readiness:
                raise Unavailable(self.readiness.reason, self.readiness.message)
            found, directives = operator_requests.change_directives(snapshot, node, request)
            if directives != found.directives and not dry_run:
                await self._dependencies.fleet.write_directives(found.name, directives, found.revision)
                self._replaced[found.name] = found.revision
            return found, directives

    async def _observe(self) -> ClusterSnapshot:
        seen = self._unoffered.applied(await self._dependencies.view.snapshot())
        snapshot = self._admitting.applied(self._unserved.applied(seen))
        self.snapshot = snapshot
        self.readiness = self._readiness(snapshot)
        now = self._dependencies.clock.monotonic()
        if snapshot.synced and now - self._sampled_at >= self._settings.sample_seconds:
            self._sampled_at = now
            await self._reporter.sample(self._counted(snapshot))
        await self._planning.save()
        return snapshot

    def _readiness(self, snapshot: ClusterSnapshot) -> Verdict:
        if not snapshot.synced:
            return Verdict(False, Reason.NOT_SYNCED, "the manager has not read the whole cluster yet")
        age = self._dependencies.clock.now() - snapshot.taken_at
        if age > self._settings.stale_after_seconds:
            return Verdict(
                False,
                Reason.STALE_SNAPSHOT,
                f"the view of the cluster is {age:.0f} s old, so nothing moves",
            )
        if self._dependencies.leadership.epoch is None:
            return Verdict(False, Reason.NOT_LEADER, self._dependencies.leadership.not_leading_message)
        behind = [n.name for n in snapshot.nodes if n.revision and self._replaced.get(n.name) == n.revision]
        if behind:
            return Verdict(
                False,
                Reason.NOT_SYNCED,
                f"the manager waits to see its own last write to {behind[0]}",
            )
        self._replaced.clear()
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
            intent = intents.heeded(node) or intents.forgotten(node) or intents.adopt(node)
            if intent is not None:
                self._note(node, await self._executor.write(node, intent))
            elif (left := intents.fulfilled(node)) is not None:
                await self._dependencies.fleet.write_directives(node.name, left, node.revision)
                self._replaced[node.name] = node.revision

        await self._on_each(nodes, adopt)

    async def _repair(self, nodes: list[Node]) -> None:
        async def repair(node: Node) -> None:
            if node.name in self._replaced:
                return
            intent = intents.repair(node, self._executor.epoch(), self._dependencies.clock.now())
            if intent is None or intent.transition is None:
                return
            log.info("repair_started", node=node.name, message=intent.transition.message)
            self._note(node, await self._executor.write(node, intent))

        await self._on_each(nodes, repair)

    async def _tend(self, nodes: list[Node]) -> None:
        """Of nodes without a move: what an ended one left paused runs again, upgrades of the driver are held or
        not, and GPUs that an operator withdraws are closed to new pods."""

        async def tend(node: Node) -> None:
            if node.transition is not None:
                return
            action = services.at_rest(node) or conditions.fence_at_rest(node)
            if action is not None and node.name not in self._replaced:
                outcome = await self._executor.carry_out(node, action, self._dependencies.clock.now())
                await self._reporter.tended(node, outcome)

        await self._on_each(nodes, tend)

    async def _advance(self, nodes: list[Node], snapshot: ClusterSnapshot) -> None:
        async def advance(node: Node) -> None:
            transition = node.transition
            if transition is None or node.name in self._replaced:
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
            if node.name in self._replaced:
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
            self._replaced[node.name] = node.revision

    def _unforeseen(self, event: str, **about: str) -> None:
        """To be called where an exception is handled that nothing here raises on purpose."""
        self.unforeseen += 1
        log.exception(event, **about)

    async def _report(self, snapshot: ClusterSnapshot) -> None:
        statuses = pool_statuses(self._counted(snapshot), self.plan)
        await write_pools(self._dependencies.reporter, snapshot.pools, statuses)
        states = self.plan.reservations if self.plan is not None else ()
        await self._reporter.reservations(states)
        await write_reservations(self._dependencies.reservations, states)
