"""Reading history: pages of plans, moves and REST calls, and samples for the chart. Newest first."""

from bisect import bisect_left
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Select, func, or_, select
from sqlmodel import Session, SQLModel, col

from poolmgr.domain.census import Count
from poolmgr.domain.errors import Rejected
from poolmgr.domain.history import (
    DemandSample,
    Page,
    PastDecision,
    PastPlan,
    PastStep,
    PastTransition,
    RestCall,
)
from poolmgr.domain.identifiers import (
    Generation,
    GpuUuid,
    NodeName,
    PciAddress,
    PlanId,
    PoolName,
    WorkloadUid,
)
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Move, Plan, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.store.database import Database
from poolmgr.store.tables import (
    MoveRow,
    PlanRow,
    RefusalRow,
    RestCallRow,
    SampleRow,
    StepRow,
    TargetRow,
    TransitionRow,
)

MAX_PAGE = 500
"""Rows; a larger page is cut to this."""
MAX_TOKEN = 18
"""Digits: what every database compares without overflow."""

Row = TypeVar("Row", bound=SQLModel)


class SqlHistory:
    """The read side of the ledger. Every method raises Unavailable when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def plans(self, *, pool: str = "", page_size: int = 50, page_token: str = "") -> Page[PastPlan]:
        """Recorded plans, of one pool where given. Raises Rejected for a token that is not ours."""
        query = select(PlanRow)
        if pool:
            query = query.where(col(PlanRow.pool) == pool)
        before = _position(page_token)

        def work(session: Session) -> Page[PastPlan]:
            rows, token = _page(session, query, PlanRow, before, page_size)
            refusals = _refusals(session, [row.id for row in rows])
            return Page(tuple(_past_plan(session, row, tuple(refusals[row.id])) for row in rows), token)

        return await self._database.run(work)

    async def decisions(self, *, limit: int, without: frozenset[Reason]) -> tuple[PastDecision, ...]:
        """The newest moves begun, and the newest workloads told to wait except for the reasons in `without`: up to `limit` of
        each, so that many who wait hide no move; newest first."""
        made = select(MoveRow, col(PlanRow.made_at)).join(PlanRow, col(MoveRow.plan) == col(PlanRow.id))
        moves = made.where(col(PlanRow.dry_run).is_(False)).order_by(col(MoveRow.id).desc()).limit(limit)
        refused = select(RefusalRow, col(PlanRow.made_at)).join(
            PlanRow, col(RefusalRow.plan) == col(PlanRow.id)
        )
        refusals = (
            refused.where(
                col(RefusalRow.kind).in_((SubjectKind.VM.value, SubjectKind.POD.value)),
                col(RefusalRow.reason).not_in([reason.value for reason in without]),
            )
            .order_by(col(RefusalRow.id).desc())
            .limit(limit)
        )

        def work(session: Session) -> tuple[PastDecision, ...]:
            found = [
                PastDecision(
                    at, Subject(SubjectKind.GPU, m.node, m.pci_address), True, Reason(m.reason), m.message
                )
                for m, at in session.execute(moves).all()
            ] + [
                PastDecision(
                    at, Subject(SubjectKind(r.kind), r.namespace, r.name), False, Reason(r.reason), r.message
                )
                for r, at in session.execute(refusals).all()
            ]
            return tuple(sorted(found, key=lambda decision: decision.at, reverse=True))

        return await self._database.run(work)

    async def transitions(
        self, *, node: str = "", page_size: int = 50, page_token: str = ""
    ) -> Page[PastTransition]:
        """Moves with their steps, of one node where given."""
        query = select(TransitionRow)
        if node:
            query = query.where(col(TransitionRow.node) == node)
        before = _position(page_token)

        def work(session: Session) -> Page[PastTransition]:
            rows, token = _page(session, query, TransitionRow, before, page_size)
            return Page(tuple(_past_transition(session, row) for row in rows), token)

        return await self._database.run(work)

    async def rest_calls(self, *, page_size: int = 50, page_token: str = "") -> Page[RestCall]:
        """Who asked for what through the API."""
        before = _position(page_token)

        def work(session: Session) -> Page[RestCall]:
            rows, token = _page(session, select(RestCallRow), RestCallRow, before, page_size)
            return Page(tuple(RestCall(**row.model_dump(exclude={"id"})) for row in rows), token)

        return await self._database.run(work)

    async def samples(self, *, since: float, until: float, pool: str = "") -> tuple[DemandSample, ...]:
        """Counts over `[since, until]`, oldest first, summed over models, and over pools unless one is given."""
        columns = [field.name for field in fields(Count)]
        at = col(SampleRow.at)
        sums: list[Any] = [at, *(func.sum(getattr(SampleRow, name)) for name in columns)]
        query: Select[Any] = select(*sums).where(at >= since, at <= until).group_by(at).order_by(at)
        if pool:
            query = query.where(col(SampleRow.pool) == pool)

        def work(session: Session) -> tuple[DemandSample, ...]:
            rows = session.execute(query).all()
            return tuple(
                DemandSample(
                    row[0], Count(**{c: _number(c, v) for c, v in zip(columns, row[1:], strict=True)})
                )
                for row in rows
            )

        return await self._database.run(work)


def _number(column: str, value: Any) -> Any:
    return float(value) if column == "shared_share" else int(value)


def _page(
    session: Session, query: Select[Any], table: Any, before: int | None, size: int
) -> tuple[list[Any], str]:
    size = max(1, min(size, MAX_PAGE))
    if before is not None:
        query = query.where(table.id < before)
    rows = list(session.execute(query.order_by(table.id.desc()).limit(size + 1)).scalars())
    return rows[:size], str(rows[size - 1].id) if len(rows) > size else ""


def _position(token: str) -> int | None:
    """The row before which a page begins: a page token is the id of the last row of the page before."""
    if not token:
        return None
    if token.isascii() and token.isdigit() and len(token) <= MAX_TOKEN:
        return int(token)
    raise Rejected(
        Reason.INVALID_REQUEST, "this server did not issue this page token; start again without one"
    )


def _children(session: Session, table: type[Row], parent: Any, row_id: int | None) -> list[Row]:
    query = select(table).where(parent == row_id).order_by(table.id)  # type: ignore[attr-defined]
    return list(session.execute(query).scalars())


def _past_plan(session: Session, row: PlanRow, refusals: tuple[Refusal, ...]) -> PastPlan:
    plan = Plan(
        plan_id=PlanId(row.plan_id),
        snapshot_generation=Generation(row.snapshot_generation),
        made_at=row.made_at,
        moves=tuple(
            Move(
                node=NodeName(m.node),
                pci_address=PciAddress(m.pci_address),
                uuid=GpuUuid(m.uuid),
                pool=PoolName(m.pool),
                model=m.model,
                to_mode=Mode(m.to_mode),
                reason=Reason(m.reason),
                message=m.message,
                evict=tuple(WorkloadUid(uid) for uid in m.evict),
                recommended=row.outcome == "recommended",
            )
            for m in _children(session, MoveRow, MoveRow.plan, row.id)
        ),
        refusals=refusals,
        targets=tuple(
            Target(PoolName(t.pool), t.model, t.passthrough, t.shared, Reason(t.reason), t.message)
            for t in _children(session, TargetRow, TargetRow.plan, row.id)
        ),
    )
    return PastPlan(plan, row.pool, row.dry_run, row.outcome, row.refusals_left_out)


def _refusals(session: Session, plans: list[int]) -> dict[int, list[Refusal]]:
    """What each of these plans says, workloads first. As columns, not as objects of the session: there are up to a thousand of
    each plan."""
    found: dict[int, list[Refusal]] = {plan: [] for plan in plans}
    if not plans:
        return found
    ordered = sorted(plans)
    until = col(RefusalRow.until_plan)
    names = ("plan", "until_plan", "kind", "namespace", "name", "reason", "message")
    query = (
        select(*(col(getattr(RefusalRow, name)) for name in names))
        .where(col(RefusalRow.plan) <= ordered[-1], or_(until.is_(None), until > ordered[0]))
        .order_by(col(RefusalRow.kind) == SubjectKind.GPU.value, col(RefusalRow.id))
    )
    for first, after, kind, namespace, name, reason, message in session.execute(query):
        refusal = Refusal(Subject(SubjectKind(kind), namespace, name), Reason(reason), message)
        end = len(ordered) if after is None else bisect_left(ordered, after)
        for plan in ordered[bisect_left(ordered, first) : end]:
            found[plan].append(refusal)
    return found


def _past_transition(session: Session, row: TransitionRow) -> PastTransition:
    steps = tuple(
        PastStep(s.step, s.reason, s.message, s.at, s.epoch)
        for s in _children(session, StepRow, StepRow.transition, row.id)
    )
    return PastTransition(
        plan_id=row.plan_id,
        node=row.node,
        devices=tuple(row.devices),
        to_mode=row.to_mode,
        started_at=row.started_at,
        ended_at=row.ended_at,
        rolled_back=row.rolled_back,
        steps=steps,
    )
