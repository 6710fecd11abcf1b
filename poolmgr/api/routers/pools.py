"""Pools: their numbers, and the one thing that can be asked of them."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from poolmgr.api import present, schemas
from poolmgr.api.answers import written
from poolmgr.api.auth import Operator
from poolmgr.api.deps import CensusDep, ControlDep
from poolmgr.api.problems import documented
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

router = APIRouter(prefix="/pools", tags=["pools"])

PoolName = Annotated[
    str,
    Path(max_length=253, pattern=r"^[^:\x00]+$", description="Name of the GPUPool.", examples=["desktops"]),
]


@router.get("", summary="List pools", responses=documented(503))
async def list_pools(control: ControlDep, census: CensusDep) -> schemas.PoolList:
    """Every GPUPool with its bounds, its GPUs on both sides, and who waits."""
    found = sorted(census.snapshot.pools, key=lambda p: p.name)
    return schemas.PoolList(items=[present.pool(p, census, control.plan) for p in found])


@router.get("/{name}", summary="Get one pool", responses=documented(404, 422, 503))
async def get_pool(name: PoolName, control: ControlDep, census: CensusDep) -> schemas.Pool:
    """One GPUPool with its numbers."""
    pools = census.snapshot.pools
    found = next((p for p in pools if p.name == name), None)
    if found is None:
        have = ", ".join(sorted(p.name for p in pools)) or "none"
        raise Rejected(Reason.POOL_NOT_FOUND, f"there is no pool {name!r}; the cluster has: {have}")
    return present.pool(found, census, control.plan)


@router.post(
    "/{name}:rebalance",
    summary="Plan for one pool now, and start the moves unless dryRun",
    response_model=schemas.Rebalance,
    responses=documented(401, 403, 404, 412, 422, 503),
)
async def rebalance(
    name: PoolName, body: schemas.RebalanceRequest, request: Request, control: ControlDep, caller: Operator
) -> Response:
    """Answer the plan with every move and every refusal, each with its reason.

    With `dryRun: true` nothing changes. Otherwise the moves that pass the last check are started at once,
    also in a pool that is `Recommend` or `Off`: an operator asked. Bounds, budgets and busy GPUs are
    respected all the same. Every answer other than 200 means that nothing was changed.
    """
    request.state.caller, request.state.dry_run = caller, body.dry_run
    result = await control.request_rebalance(name, dry_run=body.dry_run, generation=body.generation)
    return await written(lambda: present.rebalance(name, result))
