"""Nodes and their GPUs, as the manager sees them now."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from poolmgr.api import present, schemas
from poolmgr.api.answers import written
from poolmgr.api.deps import NO_NUL, CensusDep, PageSize, PageToken
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
        lambda: schemas.NodeList(items=[present.node(part, pool) for part in page], next_page_token=token)
    )
