"""Writing history: implements `poolmgr.controller.interfaces.Ledger`, and the audit of REST calls.

Every method raises Unavailable when the database does not answer; the caller goes on without.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlmodel import Session, SQLModel, col

from poolmgr.controller.interfaces import StepRecord
from poolmgr.domain.census import Census
from poolmgr.domain.errors import Rejected
from poolmgr.domain.history import RestCall
from poolmgr.domain.plan import Plan, Refusal, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.store.database import Database
from poolmgr.store.tables import (
    NAME,
    LearnedStateRow,
    MoveRow,
    PlanRow,
    RefusalRow,
    RestCallRow,
    SampleRow,
    StepRow,
    TargetRow,
    TransitionRow,
)

DAY = 86_400.0
PRUNE_EVERY_SECONDS = 3_600.0

ENDINGS = frozenset({Reason.MOVE_COMPLETED, Reason.ROLLED_BACK})
"""What the executor says last of a move."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each kind of history is kept, in days."""

    plans: float = 30.0
    transitions: float = 180.0
    """Moves are few and what an audit asks for."""
    samples: float = 70.0
    """Ten weeks: the forecast looks for a weekly rhythm and wants several of each weekday."""
    rest_calls: float = 180.0
    mebibytes: float = 512.0
    """Of a SQLite file; then the oldest go before their time, plans first. How large a PostgreSQL may be is its
    administrator's business."""
    refusals_per_plan: int = 1_000
    """A plan for a large fleet refuses every GPU that it leaves alone; those about workloads go first."""


class SqlLedger:
    """The ledger on one `Database`."""

    def __init__(self, database: Database, retention: Retention | None = None) -> None:
        self._database = database
        self._retention = retention or Retention()
        self._pruned_at = float("-inf")

    async def record_plan(self, plan: Plan, *, pool: str, dry_run: bool, outcome: str) -> None:
        """Keep a decision. With a `pool`, only the moves and targets of that pool."""
        await self._database.run(
            lambda session: _add_plan(
                session, plan, pool, dry_run, outcome, self._retention.refusals_per_plan
            )
        )

    async def record_step(self, record: StepRecord) -> None:
        """Add one step to the move of this plan on this node; the first one opens it."""
        await self._database.run(lambda session: _add_step(session, record))

    async def record_sample(self, census: Census) -> None:
        """Keep the counts of this instant; now and then remove what is older than its retention."""
        taken_at = census.snapshot.taken_at
        prune = taken_at - self._pruned_at >= PRUNE_EVERY_SECONDS

        def work(session: Session) -> None:
            for (pool, model), count in census.counts.items():
                session.merge(SampleRow(at=taken_at, pool=pool or "", model=model, **asdict(count)))
            if prune:
                _prune(session, self._retention, taken_at)

        await self._database.run(work)
        if prune:
            self._pruned_at = taken_at

    async def load_learned_state(self, planner: str) -> Any:
        """What `save_learned_state` kept last for this planner, or None."""

        def work(session: Session) -> Any:
            try:
                row = session.get(LearnedStateRow, planner)
            except ValueError as error:
                return Rejected(
                    Reason.LEARNED_STATE_DAMAGED,
                    f"what planner {planner} has learned is not JSON ({error}); it is overwritten with what it learns "
                    "from now on",
                )
            return None if row is None else row.learned

        found = await self._database.run(work)
        if isinstance(found, Rejected):
            raise found
        return found

    async def save_learned_state(self, planner: str, learned: Any) -> None:
        await self._database.run(
            lambda session: _keep(session, LearnedStateRow(planner=planner, learned=learned))
        )

    async def record_call(self, call: RestCall) -> None:
        """Keep who asked for what through the REST API, and what was answered."""
        row = RestCallRow(**asdict(call))
        row.caller, row.request_id, row.code = row.caller[:NAME], row.request_id[:NAME], row.code[:NAME]
        await self._database.run(lambda session: session.add(row))


def _keep(session: Session, row: LearnedStateRow) -> None:
    # Not `merge`, which reads what is there: it may be damaged.
    session.execute(delete(LearnedStateRow).where(col(LearnedStateRow.planner) == row.planner))
    session.add(row)


def _add_plan(session: Session, plan: Plan, pool: str, dry_run: bool, outcome: str, limit: int) -> None:
    stored = sorted(plan.refusals, key=_workloads_first)[:limit]
    row = PlanRow(
        plan_id=plan.plan_id,
        pool=pool,
        snapshot_generation=plan.snapshot_generation,
        made_at=plan.made_at,
        dry_run=dry_run,
        outcome=outcome,
        refusals_left_out=len(plan.refusals) - len(stored),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    for move in plan.moves:
        if pool in ("", move.pool):
            session.add(
                MoveRow(
                    plan=row.id,
                    node=move.node,
                    pci_address=move.pci_address,
                    uuid=move.uuid,
                    pool=move.pool,
                    model=move.model,
                    to_mode=move.to_mode.value,
                    reason=move.reason.value,
                    message=move.message,
                    evict=list(move.evict),
                )
            )
    _change_refusals(session, row.id, stored)
    for target in plan.targets:
        if pool in ("", target.pool):
            session.add(
                TargetRow(
                    plan=row.id,
                    pool=target.pool,
                    model=target.model,
                    passthrough=target.passthrough,
                    shared=target.shared,
                    reason=target.reason.value,
                    message=target.message,
                )
            )


def _change_refusals(session: Session, plan: int, refusals: list[Refusal]) -> None:
    """Begin those that are new with this plan, and end those that it does not say any more."""
    names = ("kind", "namespace", "name", "reason", "message")
    said = Counter(
        (r.subject.kind.value, r.subject.namespace, r.subject.name, r.reason.value, r.message)
        for r in refusals
    )
    standing = select(*(col(getattr(RefusalRow, name)) for name in ("id", *names))).where(
        col(RefusalRow.until_plan).is_(None)
    )
    over = []
    for row_id, *words in session.execute(standing):
        if said[key := tuple(words)] > 0:
            said[key] -= 1
        else:
            over.append(row_id)
    if over:
        session.execute(update(RefusalRow).where(col(RefusalRow.id).in_(over)).values(until_plan=plan))
    # In one statement: a thousand objects of the session would take ten times as long.
    if new := [{"plan": plan, **dict(zip(names, key, strict=True))} for key in said.elements()]:
        session.execute(insert(RefusalRow), new)


def _workloads_first(refusal: Refusal) -> int:
    return int(refusal.subject.kind is SubjectKind.GPU)


def _add_step(session: Session, record: StepRecord) -> None:
    # The same plan may come back to a node after its first move there ended: only an open one goes on.
    row = session.execute(
        select(TransitionRow)
        .where(
            col(TransitionRow.plan_id) == record.plan_id,
            col(TransitionRow.node) == record.node,
            col(TransitionRow.ended_at).is_(None),
        )
        .order_by(col(TransitionRow.id).desc())
        .limit(1)
    ).scalar()
    if row is None:
        row = TransitionRow(
            plan_id=record.plan_id,
            node=record.node,
            devices=list(record.devices),
            to_mode=record.to_mode.value,
            started_at=record.at,
        )
        session.add(row)
        session.flush()
    if record.to_mode.value != row.to_mode:
        row.to_mode, row.rolled_back = record.to_mode.value, True
    if record.reason in ENDINGS:
        row.ended_at = record.at
    assert row.id is not None
    session.add(
        StepRow(
            transition=row.id,
            step=record.step,
            reason=record.reason.value,
            message=record.message,
            at=record.at,
            epoch=record.epoch,
        )
    )


def _prune(session: Session, retention: Retention, now: float) -> None:
    limits = (
        (PlanRow, PlanRow.made_at, retention.plans),
        (TransitionRow, TransitionRow.started_at, retention.transitions),
        (SampleRow, SampleRow.at, retention.samples),
        (RestCallRow, RestCallRow.at, retention.rest_calls),
    )
    for table, instant, days in limits:
        _forget(session, table, instant, now - days * DAY)
    for table, instant, _ in limits:
        while (rows := _count(session, table)) > 1 and _mebibytes(session) > retention.mebibytes:
            tenth = select(col(instant)).order_by(col(instant)).offset(max(1, rows // 10)).limit(1)
            _forget(session, table, instant, session.execute(tenth).scalar_one())


def _forget(session: Session, table: type[SQLModel], instant: Any, before: float) -> None:
    """Moves, refusals, targets and steps go with their parent (ON DELETE CASCADE)."""
    if table is PlanRow:
        first = select(func.min(PlanRow.id)).where(col(instant) >= before)
        if (oldest := session.execute(first).scalar()) is not None:
            until = col(RefusalRow.until_plan)
            stands = (col(RefusalRow.plan) < oldest) & or_(until.is_(None), until > oldest)
            session.execute(update(RefusalRow).where(stands).values(plan=oldest))
    session.execute(delete(table).where(col(instant) < before))


def _count(session: Session, table: type[SQLModel]) -> int:
    return int(session.execute(select(func.count()).select_from(table)).scalar_one())


def _mebibytes(session: Session) -> float:
    """What a SQLite file would take without the room in it that is free again."""
    if session.get_bind().dialect.name != "sqlite":
        return 0.0
    pages, free, size = (
        session.execute(text(f"PRAGMA {name}")).scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return float((pages - free) * size) / 2**20
