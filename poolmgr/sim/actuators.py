"""The controller's interfaces over the simulated cluster, with a fault for every call that a test asks for.

Every call goes through `Faults.enter` first: that is where a call is counted, refused, lost or made to crash
its caller. "before" leaves nothing done; "after" has done it and the answer is lost: the two ways in which a
write can fail. `leave` is the other end.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from poolmgr.controller.interfaces import PoolStatus, StepRecord
from poolmgr.domain.census import Census
from poolmgr.domain.directives import Directives
from poolmgr.domain.errors import Stale, Unavailable
from poolmgr.domain.fleet import Pool
from poolmgr.domain.history import RestCall
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PlanId, WorkloadUid
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Plan, ReservationState, Subject, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.sim.agent import SimAgents
from poolmgr.sim.clock import VirtualClock
from poolmgr.sim.gpu_operator import SimOperator
from poolmgr.sim.hami import SimHami
from poolmgr.sim.kube import SimKube
from poolmgr.sim.world import SimNode, World
from poolmgr.wire.annotations import BEST_EFFORT_ONLY
from poolmgr.wire.gpu_operator import PAUSED, RUNS, UPGRADE_SKIP

When = Literal["before", "after"]


class Crash(BaseException):
    """The manager's process dies here. No `except Exception` may catch it, as none catches a SIGKILL."""


@dataclass(slots=True)
class Faults:
    """What is to go wrong. Calls are numbered from 1 over all actuators, in order."""

    fail_at: dict[int, When] = field(default_factory=dict)
    """Call number → raise Unavailable before or after it took effect."""
    crash_at: dict[int, When] = field(default_factory=dict)
    """Call number → raise Crash."""
    api_gone: bool = False
    """Every call raises Unavailable."""
    calls: int = 0
    by_name: Counter[str] = field(default_factory=Counter)
    log: list[tuple[int, str, str]] = field(default_factory=list)
    """(number, call, subject) of every call: what a sweep walks."""

    def enter(self, name: str, subject: str) -> int:
        self.calls += 1
        self.by_name[name] += 1
        self.log.append((self.calls, name, subject))
        self._strike(self.calls, "before", name)
        return self.calls

    def leave(self, number: int, name: str) -> None:
        self._strike(number, "after", name)

    def _strike(self, number: int, when: When, name: str) -> None:
        if self.crash_at.get(number) == when:
            raise Crash(f"injected crash {when} call {number} ({name})")
        if self.api_gone or self.fail_at.get(number) == when:
            message = f"injected fault {when} call {number} ({name}); try again"
            raise Unavailable(Reason.API_UNAVAILABLE, message, retry_after_seconds=1.0)


@dataclass(slots=True)
class Actuators:
    """FleetActuator, SharingActuator, ServiceActuator, Evictor, Admitter, Recorder and PoolReporter of one simulated cluster."""

    world: World
    clock: VirtualClock
    faults: Faults
    agents: SimAgents
    hami: SimHami
    kube: SimKube
    operator: SimOperator
    touch: Callable[[NodeName | None], None]
    events: list[tuple[float, Subject, Reason, str, bool]] = field(default_factory=list)
    """(at, subject, reason, message, warning) of every Event."""
    pool_statuses: dict[str, PoolStatus] = field(default_factory=dict)
    evictions: int = 0
    reservations: "SimReservations" = field(init=False)

    def __post_init__(self) -> None:
        self.reservations = SimReservations(self.faults)

    def _node(self, name: NodeName) -> SimNode:
        node = self.world.nodes.get(name)
        if node is None:
            raise Stale(Reason.NOT_FOUND, f"node {name} is no longer there; observe again")
        return node

    # FleetActuator

    async def write_intent(self, node: NodeName, intent: NodeIntent, revision: str) -> str:
        number = self.faults.enter("write_intent", node)
        at = self._node(node)
        if str(at.revision) != revision:
            raise Stale(
                Reason.STALE_GENERATION, f"GPUNode {node} is at {at.revision}, not {revision}; observe again"
            )
        at.desired = {address: (mode, plan_id) for address, mode, plan_id in intent.desired}
        at.transition = intent.transition
        at.backoffs, at.disturbances = intent.backoffs, intent.disturbances
        if intent.retry_heeded:
            at.retry = ""
        at.generation += 1
        at.revision += 1
        self.agents.poke(node)
        self.touch(node)
        self.faults.leave(number, "write_intent")
        return str(at.revision)

    async def write_directives(self, node: NodeName, directives: Directives, revision: str) -> None:
        number = self.faults.enter("write_directives", node)
        at = self._node(node)
        if str(at.revision) != revision:
            raise Stale(
                Reason.STALE_GENERATION, f"GPUNode {node} is at {at.revision}, not {revision}; observe again"
            )
        at.directives = directives
        at.revision += 1
        self.agents.poke(node)
        self.touch(node)
        self.faults.leave(number, "write_directives")

    async def ensure_silence_noted(self, node: NodeName, since: float | None) -> None:
        number = self.faults.enter("ensure_silence_noted", node)
        at = self._node(node)
        at.silence_noted = since is not None
        at.revision += 1
        self.touch(node)
        self.faults.leave(number, "ensure_silence_noted")

    # SharingActuator

    async def ensure_gpus_fenced(self, node: NodeName, uuids: frozenset[GpuUuid]) -> None:
        number = self.faults.enter("ensure_gpus_fenced", node)
        at = self._node(node)
        sharing = at.sharing
        if sharing.fence != uuids and sharing.version >= (2, 10):
            sharing.fence, sharing.handshake = uuids, ""
            self.touch(node)
        self.faults.leave(number, "ensure_gpus_fenced")

    async def ensure_cordoned(self, node: NodeName, cordoned: bool) -> None:
        number = self.faults.enter("ensure_cordoned", node)
        at = self._node(node)
        if cordoned and not at.unschedulable:
            at.unschedulable = at.cordoned_by_us = True
        elif not cordoned:
            if at.cordoned_by_us:
                at.unschedulable = at.cordoned_by_us = False
            if at.sharing.asked_for:
                at.sharing.asked_for, at.sharing.opened_at = "", round(at.sharing.asked_at)
            self.hami.poke()
            self.kube.poke()
        self.touch(node)
        self.faults.leave(number, "ensure_cordoned")

    async def ensure_plugin(self, node: NodeName, wanted: bool) -> None:
        number = self.faults.enter("ensure_plugin", node)
        self.hami.set_plugin(self._node(node), wanted)
        self.touch(node)
        self.faults.leave(number, "ensure_plugin")

    async def ensure_unregistered(self, node: NodeName) -> None:
        number = self.faults.enter("ensure_unregistered", node)
        self.hami.unregister(self._node(node))
        self.touch(node)
        self.faults.leave(number, "ensure_unregistered")

    async def ensure_scheduler_asked(self, node: NodeName, plan: PlanId, now: float) -> None:
        number = self.faults.enter("ensure_scheduler_asked", node)
        sharing = self._node(node).sharing
        if sharing.asked_for != plan:
            sharing.asked_for, sharing.asked_at = plan, now
            sharing.handshake = "" if sharing.version >= (2, 10) else sharing.handshake
            self.touch(node)
        self.faults.leave(number, "ensure_scheduler_asked")

    async def ensure_best_effort_only(self, node: NodeName, on: bool) -> None:
        number = self.faults.enter("ensure_best_effort_only", node)
        at = self._node(node)
        if on and BEST_EFFORT_ONLY not in at.labels:
            at.labels[BEST_EFFORT_ONLY] = "true"
            self.touch(node)
        elif not on and at.labels.pop(BEST_EFFORT_ONLY, None) is not None:
            self.hami.poke()
            self.touch(node)
        self.faults.leave(number, "ensure_best_effort_only")

    # ServiceActuator

    async def ensure_paused(self, node: NodeName, labels: frozenset[str]) -> None:
        number = self.faults.enter("ensure_paused", node)
        self._relabel(self._node(node), labels, RUNS, PAUSED)
        self.faults.leave(number, "ensure_paused")

    async def ensure_resumed(self, node: NodeName, labels: frozenset[str]) -> None:
        number = self.faults.enter("ensure_resumed", node)
        self._relabel(self._node(node), labels, PAUSED, RUNS)
        self.faults.leave(number, "ensure_resumed")

    def _relabel(self, at: SimNode, labels: frozenset[str], was: str, now: str) -> None:
        changed = {label: now for label in labels if at.labels.get(label) == was}
        if changed:
            at.labels |= changed
            self.operator.labels_changed(at)

    async def ensure_upgrades_held(self, node: NodeName, held: bool) -> None:
        number = self.faults.enter("ensure_upgrades_held", node)
        at = self._node(node)
        if held and UPGRADE_SKIP not in at.labels:
            at.labels[UPGRADE_SKIP], at.upgrades_held_by_us = RUNS, True
            self.operator.labels_changed(at)
        elif not held and at.upgrades_held_by_us:
            at.upgrades_held_by_us = False
            if at.labels.get(UPGRADE_SKIP) == RUNS:
                del at.labels[UPGRADE_SKIP]
            self.operator.labels_changed(at)
        self.faults.leave(number, "ensure_upgrades_held")

    # Evictor

    async def evict(self, pod: WorkloadUid, namespace: str, name: str) -> Verdict:
        number = self.faults.enter("evict", f"{namespace}/{name}")
        found = self.world.pods.get(pod)
        if found is None or found.terminating:
            verdict = Verdict(True, Reason.EVICTED, f"pod {namespace}/{name} is already leaving")
        elif not found.request.evictable:
            verdict = Verdict(
                False, Reason.EVICTION_DENIED, f"a disruption budget keeps pod {namespace}/{name}"
            )
        else:
            self.evictions += 1
            self.kube.evict(found)
            verdict = Verdict(True, Reason.EVICTED, f"pod {namespace}/{name} is evicted")
        self.faults.leave(number, "evict")
        return verdict

    # Recorder

    async def event(self, subject: Subject, reason: Reason, message: str, *, warning: bool = False) -> None:
        self.events.append((self.clock.now(), subject, reason, message, warning))

    # PoolReporter

    async def ensure_admitted(self, pod: WorkloadUid, namespace: str, name: str) -> None:
        number = self.faults.enter("ensure_admitted", f"{namespace}/{name}")
        launched = next((vm for vm in self.world.vms.values() if vm.launcher_uid == pod), None)
        found = launched or self.world.pods.get(pod)
        if found is not None and found.gated:
            found.gated = False
            self.touch(None)
            self.kube.poke()
            self.hami.poke()
        self.faults.leave(number, "ensure_admitted")

    async def report(self, pool: Pool, status: PoolStatus) -> None:
        number = self.faults.enter("report", pool.name)
        self.pool_statuses[pool.name] = status
        self.faults.leave(number, "report")


@dataclass(slots=True)
class SimReservations:
    """A `ReservationReporter` that keeps what it is told."""

    faults: Faults
    states: dict[str, ReservationState] = field(default_factory=dict)

    async def report(self, state: ReservationState) -> None:
        key = f"{state.namespace}/{state.name}"
        number = self.faults.enter("report_reservation", key)
        self.states[key] = state
        self.faults.leave(number, "report_reservation")


@dataclass(slots=True)
class FixedLeadership:
    """Leadership that is held until a test takes it away."""

    held: LeaseEpoch | None = LeaseEpoch(1)

    @property
    def epoch(self) -> LeaseEpoch | None:
        return self.held

    @property
    def not_leading_message(self) -> str:
        return "another manager holds the lease; this one stands by"

    def hand_over(self) -> None:
        """A successor leads: the epoch counts up."""
        self.held = LeaseEpoch((self.held or LeaseEpoch(0)) + 1)


@dataclass(slots=True)
class MemoryLedger:
    """A `Ledger` that keeps everything in lists."""

    plans: list[tuple[Plan, str, bool, str]] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    samples: list[ClusterSnapshot] = field(default_factory=list)
    calls: list[RestCall] = field(default_factory=list)
    learned: dict[str, Any] = field(default_factory=dict)
    gone: bool = False
    keep_samples: int = 1_000

    def _open(self) -> None:
        if self.gone:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "the ledger is away (injected); go on without it")

    async def record_plan(self, plan: Plan, *, pool: str, dry_run: bool, outcome: str) -> None:
        self._open()
        self.plans.append((plan, pool, dry_run, outcome))

    async def record_step(self, record: StepRecord) -> None:
        self._open()
        self.steps.append(replace(record))

    async def record_call(self, call: RestCall) -> None:
        self._open()
        self.calls.append(call)

    async def record_sample(self, census: Census) -> None:
        self._open()
        self.samples.append(census.snapshot)
        del self.samples[: -self.keep_samples]

    async def load_learned_state(self, planner: str) -> Any:
        self._open()
        return self.learned.get(planner)

    async def save_learned_state(self, planner: str, learned: Any) -> None:
        self._open()
        self.learned[planner] = learned
