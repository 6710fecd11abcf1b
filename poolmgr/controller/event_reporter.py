"""Tells what happened: the same sentence to log, Kubernetes Events and ledger, once per change.

The ledger may be down: then history is lost and said so, and control goes on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from poolmgr.controller.executor.execute import Outcome
from poolmgr.controller.interfaces import Ledger, Recorder, StepRecord
from poolmgr.controller.lending import Change
from poolmgr.controller.measures import Measures
from poolmgr.domain.census import Census
from poolmgr.domain.directives import Directives, changes
from poolmgr.domain.errors import PoolError, Rejected
from poolmgr.domain.estimates import Estimate
from poolmgr.domain.fleet import Node, Transition
from poolmgr.domain.history import RestCall
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Admission, Move, Plan, Refusal, ReservationState, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot, Unread

log = structlog.get_logger()

TROUBLE = frozenset(
    {
        Reason.STEP_TIMED_OUT,
        Reason.ROLLED_BACK,
        Reason.BIND_FAILED,
        Reason.EVICTION_DENIED,
        Reason.NOT_LISTED,
    }
)
"""Reasons that show as warnings."""

KINDS_WITH_OWNERS = frozenset({SubjectKind.VM, SubjectKind.POD, SubjectKind.POOL})
"""Subjects whose refusals become Events; those of GPUs are in the API, where one asks for them."""


SUBJECTS = {
    "pods": SubjectKind.POD,
    "virtualmachineinstances.kubevirt.io": SubjectKind.VM,
    "virtualmachines.kubevirt.io": SubjectKind.VM,
    "nodes": SubjectKind.NODE,
    "gpunodes.poolmgr.io": SubjectKind.NODE,
    "gpupools.poolmgr.io": SubjectKind.POOL,
    "gpureservations.poolmgr.io": SubjectKind.RESERVATION,
}
"""Kinds of which one that cannot be read is told by an Event; the others are on the page and in the log."""

LONGEST_CALLER = 200
"""Characters that the ledger keeps of a name."""


class EventReporter:
    """Remembers what it said last, so that a sentence is told when it changes and not at every tick."""

    def __init__(self, ledger: Ledger, recorder: Recorder) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self.measures = Measures()
        self._last_step: dict[NodeName, tuple[Reason, str]] = {}
        self._last_done: tuple[Any, ...] = ()
        self._last_refusals: tuple[Refusal, ...] = ()
        self._last_answers: dict[Subject, tuple[Reason, str]] = {}
        self._restarting: dict[NodeName, str] = {}
        self._reservations: dict[Subject, Reason] = {}
        self._unread: frozenset[Unread] = frozenset()
        self._directives: dict[NodeName, Directives] = {}
        self._ledger_down = False

    async def step(self, transition: Transition, outcome: Outcome, at: float) -> None:
        """One action of the executor on one node."""
        self.measures.step(transition, outcome, at)
        said = (outcome.reason, f"{transition.step.value}: {outcome.message}")
        if self._last_step.get(transition.node) == said:
            return
        self._last_step[transition.node] = said
        log.info(
            "move_step",
            node=transition.node,
            plan_id=transition.plan_id,
            step=transition.step.value,
            to_mode=transition.to_mode.value,
            lease_epoch=transition.epoch,
            reason=outcome.reason.value,
            message=outcome.message,
        )
        await self._keep(
            self._ledger.record_step(
                StepRecord(
                    plan_id=transition.plan_id,
                    node=transition.node,
                    devices=transition.devices,
                    to_mode=transition.to_mode,
                    step=transition.step.value,
                    reason=outcome.reason,
                    message=outcome.message,
                    at=at,
                    epoch=transition.epoch,
                )
            )
        )
        await self._recorder.event(
            Subject(SubjectKind.NODE, "", transition.node),
            outcome.reason,
            f"plan {transition.plan_id}, {transition.step.value}: {outcome.message}",
            warning=outcome.reason in TROUBLE,
        )
        if outcome.finished:
            self._last_step.pop(transition.node, None)

    async def unread(self, objects: tuple[Unread, ...]) -> None:
        """Objects that are set aside, each when it or its damage is new."""
        before, self._unread = self._unread, frozenset(objects)
        for found in objects:
            if found in before or found.kind not in SUBJECTS:
                continue
            message = f"{found.what} is set aside, as it cannot be read: {found.why}"
            subject = Subject(SUBJECTS[found.kind], found.namespace, found.name)
            await self._recorder.event(subject, Reason.OBJECT_UNREAD, message, warning=True)

    async def plan(self, plan: Plan, started: tuple[Move, ...]) -> None:
        """A decision: kept when it differs from the last one in what it does, recommends or refuses."""
        self.measures.started(started)
        done = tuple((m.node, m.pci_address, m.to_mode, m.recommended) for m in plan.moves), bool(started)
        if done == self._last_done and same_refusals(plan.refusals, self._last_refusals):
            return
        self._last_done, self._last_refusals = done, plan.refusals
        for pool in sorted({str(m.pool) for m in plan.moves} or {""}):
            outcome = _outcome([m for m in plan.moves if m.pool == pool], started)
            await self._keep(
                self._ledger.record_plan(plan, pool=pool, dry_run=outcome != "started", outcome=outcome)
            )
        for move in plan.moves:
            if move in started:
                log.info("move_started", **_fields(plan, move), reason=move.reason.value)
                subject = Subject(SubjectKind.NODE, "", move.node)
                await self._recorder.event(subject, move.reason, f"plan {plan.plan_id}: {move.message}")
            elif move.recommended:
                log.info("move_recommended", **_fields(plan, move), reason=Reason.RECOMMEND_ONLY.value)
        await self.refusals(plan.refusals, plan.estimates)

    async def refusals(
        self, refusals: tuple[Refusal, ...], estimates: Mapping[Subject, Estimate] | None = None
    ) -> None:
        """Tell owners of waiting workloads why they wait and how long it will take, when the answer is new. An estimate alone
        changes at every look: it goes with the answer."""
        for refusal in refusals:
            if refusal.subject.kind not in KINDS_WITH_OWNERS:
                continue
            said = (refusal.reason, refusal.message)
            if self._last_answers.get(refusal.subject) == said:
                continue
            self._last_answers[refusal.subject] = said
            log.info(
                "not_done",
                kind=refusal.subject.kind.value,
                namespace=refusal.subject.namespace,
                name=refusal.subject.name,
                reason=refusal.reason.value,
                message=refusal.message,
            )
            estimate = (estimates or {}).get(refusal.subject)
            said_of_time = f"; {estimate.sentence}" if estimate is not None else ""
            await self._recorder.event(refusal.subject, refusal.reason, refusal.message + said_of_time)

    async def admissions(self, admissions: tuple[Admission, ...]) -> None:
        """Workloads whose gate was lifted."""
        for subject, _, _, message in admissions:
            log.info(
                "admitted",
                kind=subject.kind.value,
                namespace=subject.namespace,
                name=subject.name,
                message=message,
            )
            await self._recorder.event(subject, Reason.ADMITTED, message)

    async def reservations(self, states: tuple[ReservationState, ...]) -> None:
        """Where reservations stand, each when its reason is another."""
        known, self._reservations = self._reservations, {}
        for state in states:
            self._reservations[state.subject] = state.reason
            if known.get(state.subject) is state.reason:
                continue
            log.info(
                "reservation",
                namespace=state.namespace,
                name=state.name,
                phase=state.phase.value,
                reason=state.reason.value,
                message=state.message,
            )
            await self._recorder.event(state.subject, state.reason, state.message, warning=not state.ok)

    async def agent(self, node: Node) -> None:
        """An agent that has fallen silent, or is heard again."""
        said = node.agent.verdict(node.name)
        message = said.message or f"the agent of {node.name} reports again"
        log.info("agent_heard" if said else "agent_silent", node=node.name, message=message)
        await self._recorder.event(
            Subject(SubjectKind.NODE, "", node.name), said.reason, message, warning=not said
        )

    async def looked(self, snapshot: ClusterSnapshot, at: float) -> None:
        """One look of the leader: objects that cannot be read, who waits no more, what operators direct."""
        self.measures.seen(snapshot)
        await self.unread(snapshot.unread)
        await self.directives(snapshot.nodes, at)

    async def directives(self, nodes: Iterable[Node], at: float) -> None:
        """What operators have changed since the last look, by whatever way. What stood when this manager began has been
        told before."""
        for node in nodes:
            before = self._directives.get(node.name)
            self._directives[node.name] = node.directives
            if before is None or before == node.directives:
                continue
            for reason, message, note in changes(before, node.directives, node.name):
                log.info(
                    "operator_directive", node=node.name, reason=reason.value, message=message, by=note.by
                )
                await self._recorder.event(Subject(SubjectKind.NODE, "", node.name), reason, message)
                by = note.by[:LONGEST_CALLER] or "somebody who edited the GPUNode"
                path = f"/gpunodes/{node.name}: {message}"[:1000]
                await self._keep(
                    self._ledger.record_call(RestCall(at, by, "ANNOTATE", path, 200, reason.value, False, ""))
                )

    async def tended(self, node: Node, outcome: Outcome) -> None:
        """What was put right on a node without a move."""
        log.info("node_tended", node=node.name, reason=outcome.reason.value, message=outcome.message)
        await self._recorder.event(Subject(SubjectKind.NODE, "", node.name), outcome.reason, outcome.message)

    async def driver_restarts(self, said: dict[NodeName, str]) -> None:
        """Drivers that start anew under GPUs of VMs: each is told of once, and again if it does so again."""
        for node, message in said.items():
            if self._restarting.get(node) != message:
                log.warning("driver_restarts", node=node, message=message)
                subject = Subject(SubjectKind.NODE, "", node)
                await self._recorder.event(subject, Reason.DRIVER_RESTARTS, message, warning=True)
        self._restarting = said

    async def lending(self, changes: tuple[Change, ...]) -> None:
        """Nodes that were lent to best-effort containers, or are lent no more."""
        for change in changes:
            reason = Reason.LENT_TO_BEST_EFFORT
            log.info(
                "node_lending", node=change.node, on=change.on, reason=reason.value, message=change.message
            )
            await self._recorder.event(Subject(SubjectKind.NODE, "", change.node), reason, change.message)

    async def sample(self, census: Census) -> None:
        await self._keep(self._ledger.record_sample(census))

    async def load_learned_state(self, planner: str) -> tuple[Any] | None:
        """What the planner learned before (None where there is nothing or it is damaged), in a tuple; None where the
        ledger cannot be read at the moment."""
        try:
            learned = await self._ledger.load_learned_state(planner)
        except Rejected as error:
            log.warning("learned_state_damaged", reason=error.reason.value, message=error.message)
            return (None,)
        except PoolError as error:
            log.warning("learned_state_not_read", reason=error.reason.value, message=error.message)
            return None
        log.info("learned_state_read", planner=planner, found=learned is not None)
        return (learned,)

    async def save_learned_state(self, planner: str, learned: Any) -> None:
        await self._keep(self._ledger.save_learned_state(planner, learned))

    async def _keep(self, work: Any) -> None:
        try:
            await work
        except PoolError as error:
            if not self._ledger_down:
                log.warning("ledger_down", reason=error.reason.value, message=error.message)
            self._ledger_down = True
            self.measures.ledger(worked=False)
        else:
            self.measures.ledger(worked=True)
            if self._ledger_down:
                log.info("ledger_back")
            self._ledger_down = False


def _outcome(moves: list[Move], started: tuple[Move, ...]) -> str:
    """What became of one pool's moves of a plan."""
    if any(move in started for move in moves):
        return "started"
    return "recommended" if any(move.recommended for move in moves) else "no_move"


def same_refusals(some: tuple[Refusal, ...], others: tuple[Refusal, ...]) -> bool:
    """Whether both leave the same things alone for the same reasons, in whatever order and words.

    Of a large fleet most are the very same values in the same places from one decision to the next; only the others
    are looked into.
    """
    if len(some) != len(others):
        return False
    changed = [pair for pair in zip(some, others, strict=True) if pair[0] is not pair[1]]
    return sorted(_gist(one) for one, _ in changed) == sorted(_gist(other) for _, other in changed)


def _gist(refusal: Refusal) -> tuple[str, str, str, str]:
    kind, namespace, name = refusal.subject
    return kind, namespace, name, refusal.reason


def _fields(plan: Plan, move: Move) -> dict[str, str]:
    return {
        "plan_id": plan.plan_id,
        "node": move.node,
        "pci_address": move.pci_address,
        "to_mode": move.to_mode.value,
        "message": move.message,
    }
