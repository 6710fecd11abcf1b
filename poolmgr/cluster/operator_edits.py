"""What an operator changes in the cluster by hand, with the operator's own rights: pools paused, GPUs cordoned.

Each edit is a compare-and-swap on the object as it was read: raises Stale where somebody else changed it meanwhile.
"""

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import RebalanceMode
from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import PAUSED_FROM
from poolmgr.wire.enums import known
from poolmgr.wire.kinds import GPU_POOLS


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
                f"pool {name} was not set Off by `poolmgr pause`: say with --mode what it shall be",
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
