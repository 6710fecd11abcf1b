"""History: plans, moves, samples and calls, from the ledger, newest first."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from poolmgr.api import present, schemas
from poolmgr.api.answers import written
from poolmgr.api.auth import AUDITOR
from poolmgr.api.deps import NO_NUL, ControlDep, HistoryDep, PageSize, RecordToken, SnapshotDep
from poolmgr.api.problems import documented
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

router = APIRouter()

PoolFilter = Annotated[str, Query(max_length=253, pattern=NO_NUL, description="Only of this pool.")]
DAY = 86_400


@router.get(
    "/plans",
    tags=["plans"],
    summary="List past plans",
    response_model=schemas.PlanList,
    responses=documented(422, 503),
)
async def list_plans(
    history: HistoryDep, pool: PoolFilter = "", page_size: PageSize = 20, page_token: RecordToken = ""
) -> Response:
    """Decisions that differed from the one before, with their moves, refusals and targets."""
    page = await history.plans(pool=pool, page_size=page_size, page_token=page_token)
    return await written(
        lambda: schemas.PlanList(
            items=[present.recorded_plan(p) for p in page.items], next_page_token=page.next_token
        )
    )


@router.get(
    "/plans/latest",
    tags=["plans"],
    summary="The newest plan",
    response_model=schemas.Plan,
    responses=documented(404, 503),
)
async def latest_plan(control: ControlDep, snapshot: SnapshotDep) -> Response:
    """The decision of the last tick, from memory: it is there when the ledger is not."""
    plan = control.plan
    if plan is None:
        raise Rejected(
            Reason.NOT_FOUND,
            f"this manager has made no plan: {control.readiness.message or 'it has just started'}",
        )
    return await written(lambda: present.plan(plan))


@router.get("/transitions", tags=["transitions"], summary="List moves", responses=documented(422, 503))
async def list_transitions(
    history: HistoryDep,
    snapshot: SnapshotDep,
    node: Annotated[str, Query(max_length=253, pattern=NO_NUL, description="Only of this node.")] = "",
    page_size: PageSize = 20,
    page_token: RecordToken = "",
) -> schemas.TransitionList:
    """Moves under way, from the cluster, and past ones with all their steps, from the ledger."""
    page = await history.transitions(node=node, page_size=page_size, page_token=page_token)
    return schemas.TransitionList(
        running=[present.move_under_way(t) for t in snapshot.transitions if node in ("", t.node)],
        items=[present.transition(t) for t in page.items],
        next_page_token=page.next_token,
    )


@router.get("/samples", tags=["samples"], summary="Use and demand over time", responses=documented(422, 503))
async def list_samples(
    history: HistoryDep,
    snapshot: SnapshotDep,
    pool: PoolFilter = "",
    seconds: Annotated[int, Query(ge=1, le=70 * DAY, description="How far to look back from now.")] = DAY,
) -> schemas.SampleList:
    """Samples up to now, oldest first, summed over pools and models."""
    until = snapshot.taken_at
    found = await history.samples(since=until - seconds, until=until, pool=pool)
    return schemas.SampleList(items=[present.sample(s) for s in found])


@router.get(
    "/calls",
    tags=["calls"],
    summary="Audit of writing calls",
    responses=documented(401, 403, 422, 503),
    dependencies=[AUDITOR],
)
async def list_calls(
    history: HistoryDep, page_size: PageSize = 50, page_token: RecordToken = ""
) -> schemas.CallList:
    """Who asked for what through this API, and what was answered. Takes a right of its own, or the token where one is set."""
    page = await history.rest_calls(page_size=page_size, page_token=page_token)
    return schemas.CallList(items=[present.call(c) for c in page.items], next_page_token=page.next_token)
