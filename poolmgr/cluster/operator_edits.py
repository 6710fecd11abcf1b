"""What an operator changes in the cluster by hand, with the operator's own rights: pools paused, directives about GPUs.

Each edit is a compare-and-swap on the object as it was read: raises Stale where somebody else changed it meanwhile.
"""

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType
from poolmgr.controller.intents import is_gone
from poolmgr.domain.directives import Directives, Request, after
from poolmgr.domain.errors import PoolError, Rejected
from poolmgr.domain.fleet import RebalanceMode
from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import PAUSED_FROM
from poolmgr.wire.directives import annotations_of, directives_of
from poolmgr.wire.enums import known
from poolmgr.wire.gpu_nodes import gpus_of
from poolmgr.wire.kinds import GPU_NODES, GPU_POOLS
from poolmgr.wire.meta import Wire

SELF_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


async def pause_pool(client: Client, name: str) -> RebalanceMode:
    """Set the pool Off and note what it was. Answers that; a pool that is Off is left alone."""
    pool = await client.read(GPU_POOLS.path(name), wire.GpuPool)
    before = _mode(pool)
    if before is not RebalanceMode.OFF:
        await _edit(client, pool, RebalanceMode.OFF, before.value)
    return before


async def resume_pool(client: Client, name: str, mode: RebalanceMode | None) -> RebalanceMode:
    """Set the pool to `mode`, or to what it was before the pause. Raises Rejected where nobody knows that."""
    pool = await client.read(GPU_POOLS.path(name), wire.GpuPool)
    noted = pool.metadata.annotations.get(PAUSED_FROM, "")
    if mode is None:
        if _mode(pool) is not RebalanceMode.OFF:
            raise Rejected(Reason.INVALID_REQUEST, f"pool {name} is not paused: its mode is {_mode(pool)}")
        if noted not in tuple(RebalanceMode):
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"pool {name} was not set Off by `poolmgr pause`: give the mode to set with --mode",
            )
        mode = RebalanceMode(noted)
    await _edit(client, pool, mode, None)
    return mode


def _mode(pool: wire.GpuPool) -> RebalanceMode:
    return known(RebalanceMode, pool.spec.rebalance.mode, RebalanceMode.OFF)


async def _edit(client: Client, pool: wire.GpuPool, mode: RebalanceMode, noted: str | None) -> None:
    meta = {"resourceVersion": pool.metadata.resource_version, "annotations": {PAUSED_FROM: noted}}
    await client.write(
        "PATCH",
        GPU_POOLS.path(pool.metadata.name),
        {"metadata": meta, "spec": {"rebalance": {"mode": mode.value}}},
        wire.GpuPool,
        content_type=ContentType.MERGE_PATCH,
    )


async def change_directives(
    client: Client, name: str, request: Request, *, dry_run: bool
) -> tuple[Directives, Directives]:
    """Note on the GPUNode what is wanted of its GPUs; its directives before and from then on. Raises Rejected as
    `directives.after` does."""
    node = await client.read(GPU_NODES.path(name), wire.GpuNode)
    before = directives_of(node.metadata.annotations)
    gone = {gpu.pci_address: is_gone(gpu) for gpu in gpus_of(node, {})}
    now = after(before, request, name, gone)
    if now != before and not dry_run:
        meta = {"resourceVersion": node.metadata.resource_version, "annotations": annotations_of(now)}
        path = GPU_NODES.path(name)
        await client.write(
            "PATCH", path, {"metadata": meta}, wire.GpuNode, content_type=ContentType.MERGE_PATCH
        )
    return before, now


class _Who(Wire, frozen=True):
    username: str = ""


class _Status(Wire, frozen=True):
    user_info: _Who = _Who()


class _Review(Wire, frozen=True):
    status: _Status = _Status()


async def who_am_i(client: Client) -> str:
    """The caller's name, as the API server knows it; empty where it does not say."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        return (await client.write("POST", SELF_REVIEWS, body, _Review)).status.user_info.username
    except PoolError:
        return ""
