"""Which pool a GPU belongs to.

Invariant: a GPU belongs to at most one pool. Where the selectors of several reach it, the oldest pool has it
(ties: the name that sorts first), so that creating a pool never takes GPUs from one that is there. The
younger ones get no share in it and are told so (`overlaps`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from poolmgr.domain.fleet import Node, Pool
from poolmgr.domain.identifiers import PoolName


@dataclass(frozen=True, slots=True)
class Overlap:
    """`gpus` GPUs that `loser` selects but `winner`, which is older, has."""

    loser: PoolName
    winner: PoolName
    gpus: int


def by_age(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """Oldest first; the order in which pools are asked."""
    return tuple(sorted(pools, key=lambda pool: (pool.created_at, pool.name)))


def pool_of(model: str, labels: dict[str, str], pools_by_age: Iterable[Pool]) -> PoolName | None:
    """The pool that has a GPU of `model` on a node with `labels`, or None."""
    return next((pool.name for pool in pools_by_age if pool.takes(model, labels)), None)


def overlaps(pools: Iterable[Pool], nodes: Iterable[Node]) -> tuple[Overlap, ...]:
    """Every pair of pools that reach the same GPUs, sorted by loser, then winner."""
    oldest_first = by_age(pools)
    shared: dict[tuple[PoolName, PoolName], int] = {}
    if len(oldest_first) > 1:
        for node in nodes:
            labels = dict(node.labels)
            reach: dict[str, list[PoolName]] = {}
            for gpu in node.gpus:
                if gpu.model not in reach:
                    reach[gpu.model] = [pool.name for pool in oldest_first if pool.takes(gpu.model, labels)]
                for loser in reach[gpu.model][1:]:
                    pair = (loser, reach[gpu.model][0])
                    shared[pair] = shared.get(pair, 0) + 1
    return tuple(Overlap(loser, winner, gpus) for (loser, winner), gpus in sorted(shared.items()))
