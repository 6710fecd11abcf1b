"""Nodes and their GPUs, as the manager sees them now, and the end of pauses after failed moves."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from poolmgr.api import present, schemas
from poolmgr.api.answers import written
from poolmgr.api.auth import NodeOperator
from poolmgr.api.deps import NO_NUL, CensusDep, ControlDep, PageSize, PageToken
from poolmgr.api.problems import documented

router = APIRouter(prefix="/nodes", tags=["nodes"])


@router.get(
    "",
    summary="List nodes with their GPUs",
    response_model=schemas.NodeList,
    responses=documented(422, 503),
)
async def list_nodes(
    census: CensusDep,
    pool: Annotated[str, Query(max_length=253, pattern=NO_NUL, description="Only GPUs of this pool.")] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> Response:
    """Nodes by name, each GPU with its mode, its state, who uses it and what is wrong with it."""
    # The token is the last name seen: it stays right when nodes come and go between two pages.
    rest = [part for part in census.nodes if part.node.name > page_token and (not pool or pool in part.pools)]
    rest.sort(key=lambda part: part.node.name)
    page = rest[:page_size]
    more = len(rest) > page_size
    token = page[-1].node.name if more else ""
    return await written(
        lambda: schemas.NodeList(
            items=[present.node(part, pool, census.snapshot.taken_at) for part in page],
            next_page_token=token,
        )
    )


NodeName = Annotated[
    str, Path(max_length=253, pattern=r"^[^:\x00]+$", description="Name of the node.", examples=["gpu-1"])
]


@router.post(
    "/{name}:retry",
    summary="Let GPUs move again that rest after failed moves",
    responses=documented(401, 403, 404, 412, 422, 503),
)
async def retry(
    name: NodeName, body: schemas.RetryRequest, request: Request, control: ControlDep, caller: NodeOperator
) -> schemas.Retry:
    """End the pauses of these GPUs and of their node; of everybody on the node where no GPU is named.

    The next plan may move them, if somebody needs it and the agent still says that they could be moved. The annotation
    `poolmgr.io/retry` on the GPUNode asks for the same.
    """
    request.state.caller, request.state.dry_run = caller, body.dry_run
    ended = await control.request_retry(name, tuple(body.devices), dry_run=body.dry_run)
    return schemas.Retry(node=name, dry_run=body.dry_run, ended=[present.pause(b) for b in ended])
