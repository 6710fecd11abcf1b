"""What one waiting workload may come to take up of the pools' quotas, in GPUs: asked by the planner for every workload, and
by admission for the one that is being created.

Where it may land in one of several pools it counts in each of them until it runs, so that no pool is ever over a quota.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from poolmgr.domain.demand import CardAsk, accepts_model, worth_of
from poolmgr.domain.identifiers import GpuUuid, PoolName

K = TypeVar("K")
Charge = Mapping[PoolName, float]
"""Pool → GPUs that one workload takes up of it."""


def accepts_one_of(
    model: str,
    uuids: Iterable[GpuUuid],
    *,
    models: Sequence[str],
    excluded_models: Sequence[str],
    allowed_uuids: Sequence[GpuUuid],
    excluded_uuids: Sequence[GpuUuid],
) -> bool:
    """Whether a pod with these constraints accepts a GPU of `model` among `uuids`. Excluded UUIDs alone leave others of the
    model, today's or tomorrow's; only a pod that names its GPUs is held to these."""
    if not accepts_model(model, models, excluded_models):
        return False
    if not allowed_uuids:
        return True
    allowed = set(allowed_uuids).difference(excluded_uuids)
    return any(uuid in allowed for uuid in uuids)


def reached(kinds: Iterable[K], pool_of: Callable[[K], PoolName], admits: Callable[[K], bool]) -> list[K]:
    """Of kinds of GPU in several pools, those with a node that admits the workload. All, where none is known to: rather
    too much is counted than too little."""
    asked = list(kinds)
    if len({pool_of(kind) for kind in asked}) < 2:
        return asked
    return [kind for kind in asked if admits(kind)] or asked


def charge_of_slices(asks: Sequence[CardAsk], cards: Iterable[tuple[PoolName, int]]) -> dict[PoolName, float]:
    """Of a pod with these containers that may land on `cards`, (pool, MiB of one card): by those of which it takes the
    largest part."""
    charge: dict[PoolName, float] = {}
    for pool, card_mib in cards:
        charge[pool] = max(charge.get(pool, 0.0), worth_of(asks, card_mib))
    return charge


def charge_of_whole(claims: Iterable[tuple[int, Iterable[PoolName]]]) -> dict[PoolName, float]:
    """Of claims, (GPUs, pools where they may be found): each counts in every one of its pools."""
    charge: dict[PoolName, float] = {}
    for gpus, pools in claims:
        for pool in sorted(set(pools)):
            charge[pool] = charge.get(pool, 0.0) + gpus
    return charge
