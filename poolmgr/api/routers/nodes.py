"""Nodes and their GPUs, as the manager sees them now."""

from typing import Annotated

from fastapi import APIRouter, Query

from poolmgr.api import present, schemas
from poolmgr.api.deps import PageSize, PageToken, SnapshotDep
from poolmgr.api.problems import documented

router = APIRouter(prefix="/nodes", tags=["nodes"])


@router.get("", summary="List nodes with their GPUs", responses=documented(422, 503))
async def list_nodes(
    snapshot: SnapshotDep,
    pool: Annotated[str, Query(max_length=253, description="Only GPUs of this pool.")] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> schemas.NodeList:
    """Nodes by name, each GPU with its mode, its state, who uses it and what is wrong with it."""
    found = present.nodes(snapshot)
    if pool:
        kept = (n.model_copy(update={"gpus": [g for g in n.gpus if g.pool == pool]}) for n in found)
        found = [n for n in kept if n.gpus]
    # The token is the last name seen: it stays right when nodes come and go between two pages.
    rest = [n for n in found if n.name > page_token]
    page = rest[:page_size]
    more = len(rest) > page_size
    return schemas.NodeList(items=page, next_page_token=page[-1].name if more else "")
