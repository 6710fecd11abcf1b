"""Which pool a GPU belongs to.

Invariant: a GPU belongs to at most one pool. Where the selectors of several reach it, the oldest pool has it
(ties: the name that sorts first), so that creating a pool never takes GPUs from one that is there. The
younger ones get no share in it and are told so (`overlaps`).
"""

from collections import Counter
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
    shared: Counter[tuple[PoolName, PoolName]] = Counter()
    if len(oldest_first) > 1:
        # Pools look at a model and a few labels: GPUs equal in these are looked at once.
        asked = frozenset(key for pool in oldest_first for key, _ in pool.node_labels)
        alike: Counter[tuple[tuple[tuple[str, str], ...], str]] = Counter()
        for node in nodes:
            labels = tuple([pair for pair in node.labels if pair[0] in asked]) if asked else ()
            for gpu in node.gpus:
                alike[labels, gpu.model] += 1
        for (labels, model), gpus in alike.items():
            winner, *losers = [p.name for p in oldest_first if p.takes(model, dict(labels))] or [PoolName("")]
            shared.update({(loser, winner): gpus for loser in losers})
    return tuple(Overlap(loser, winner, gpus) for (loser, winner), gpus in sorted(shared.items()))
