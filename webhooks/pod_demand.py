"""What a pod may come to have: GPUs of which pools, on which nodes, and how much of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poolmgr.domain.charge import charge_of_slices, charge_of_whole
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import ANYWHERE, Placement
from poolmgr.wire.hami.config import HamiConfig
from webhooks.fleet_view import FleetView, ModelView
from webhooks.kinds import reached_on
from webhooks.placement import admitting, placement_in, why_none
from webhooks.promises import promises_of
from webhooks.slices import Asked, Constraints


@dataclass(frozen=True, slots=True)
class PodDemand:
    charge: tuple[tuple[Pool, float], ...]
    """GPUs that it would take up of each pool where it may land."""
    no_node: str = ""
    """Why no node with a GPU for it admits it; empty where one does."""
    promised: bool = False
    """Whole GPUs that it asks for are promised to somebody, now or later."""

    @property
    def pools(self) -> tuple[Pool, ...]:
        return tuple(pool for pool, _ in self.charge)


def demand_of(
    pod: Mapping[str, Any],
    asked: Asked,
    constraints: Constraints | None,
    fleet: FleetView,
    config: HamiConfig,
) -> PodDemand:
    """By its slices, of cards that `constraints` admit (None: it asks for none), and by the whole GPUs that it names.
    `asked` is of the pod."""
    placement = placement_in(pod.get("spec") or {})
    slices: Mapping[PoolName, float] = {}
    no_node = ""
    if constraints is not None:
        views = [view for view in fleet.models.values() if constraints.admit_model(view.model)]
        nodes, no_node = _admitting(placement, views, fleet)
        kinds = reached_on([kind for kind in fleet.kinds if constraints.admit_kind(kind)], nodes)
        cards = ((kind.pool.name, int(kind.memory_mib * config.memory_scaling)) for kind in kinds)
        slices = charge_of_slices(asked.cards, cards)
    promised = False
    claims = []
    for resource, gpus in asked.extended.items():
        if resource in fleet.resources:
            models = fleet.models_of_resource[resource]
            promised |= bool(promises_of(models, Mode.PASSTHROUGH, fleet))
            nodes = admitting(placement, fleet.resources[resource].by_node, fleet)
            claims.append((gpus, [kind.pool.name for kind in reached_on(fleet.kinds_of(models), nodes)]))
    whole = charge_of_whole(claims)
    charge = tuple(
        (pool, slices.get(pool.name, 0.0) + whole.get(pool.name, 0.0))
        for pool in fleet.pools
        if pool.name in slices or pool.name in whole
    )
    return PodDemand(charge, no_node, promised)


def _admitting(
    placement: Placement, views: list[ModelView], fleet: FleetView
) -> tuple[list[NodeName] | None, str]:
    """The nodes that have one of the models and admit the pod, None for all; and why none does, with all of them."""
    if placement == ANYWHERE and not fleet.node_taints:
        return None, ""
    models = {view.model for view in views}
    having = [name for name, census in fleet.census.items() if not models.isdisjoint(census)]
    if found := admitting(placement, having, fleet, shared=True):
        return found, ""
    return having, why_none(placement, having, fleet, shared=True)


def no_node_warning(demand: PodDemand) -> str:
    return (
        f"the pod cannot run on any node that has a GPU for it: {demand.no_node}; it waits until that changes, and no GPU is "
        "moved for it"
    )
