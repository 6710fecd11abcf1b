"""The kinds of GPU that pools have, for what a request would count against quotas."""

from collections.abc import Iterable
from dataclasses import dataclass

from poolmgr.domain.charge import reached
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import GpuUuid, NodeName, PoolName
from webhooks.gpu_view import GpuView


@dataclass(frozen=True, slots=True)
class PoolKind:
    """The GPUs of one model in one pool."""

    pool: Pool
    model: str
    memory_mib: int
    """Of one card, the largest."""
    nodes: frozenset[NodeName]
    uuids: frozenset[GpuUuid]


def kinds_of(gpus: Iterable[GpuView], pools: Iterable[Pool]) -> tuple[PoolKind, ...]:
    """Of all GPUs that are in a pool and whose model is known. O(GPUs)."""
    by_name = {pool.name: pool for pool in pools}
    members: dict[tuple[PoolName, str], list[GpuView]] = {}
    for view in gpus:
        if view.gpu.pool in by_name and view.gpu.model:
            members.setdefault((view.gpu.pool, view.gpu.model), []).append(view)
    return tuple(
        PoolKind(
            by_name[pool],
            model,
            max(view.gpu.memory_mib for view in found),
            frozenset(view.gpu.node for view in found),
            frozenset(view.gpu.uuid for view in found if view.gpu.uuid),
        )
        for (pool, model), found in members.items()
    )


def reached_on(kinds: Iterable[PoolKind], nodes: Iterable[NodeName] | None) -> list[PoolKind]:
    """Those with GPUs on one of `nodes` (None: on all); see `reached`."""
    if nodes is None:
        return list(kinds)
    asked = frozenset(nodes)
    return reached(kinds, lambda kind: kind.pool.name, lambda kind: not asked.isdisjoint(kind.nodes))
