"""GPUs for pods that one node has to serve whole: moved together to the node where they complete a pod, or not at all."""

from dataclasses import dataclass

import numpy as np

from poolmgr.domain.demand import FULL_CORES
from poolmgr.domain.denials import name_of
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.card_table import DEFAULT_SPLIT, CapacityTable, card_size
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.inventory.node_resources import NodeResources
from poolmgr.planner.inventory.shared_fit import PodShape, ShapeFit, rows_for
from poolmgr.planner.inventory.whole_pods import Card, place_whole
from poolmgr.planner.stages.state import Proposal


@dataclass(slots=True)
class _NodeUnits:
    """One node: its shared cards with what is left of them, and the units that could come over."""

    name: NodeName
    cards: list[Card]
    units: list[tuple[GroupKey, Unit]]
    came: int = 0
    """Cards that came over for earlier pods; their rows are below zero."""


def return_for_whole_pods(
    proposal: Proposal,
    fit: ShapeFit,
    surplus: dict[GroupKey, int],
    movable: dict[NodeName, list[tuple[GroupKey, Unit]]],
    resources: NodeResources,
) -> None:
    """Move what completes the unmet pods of one shape, on the nodes where the fewest GPUs do. `surplus` are the GPUs
    that each group can spare, `movable` the rested idle units of each node, `resources` what nodes have left beside GPUs; all
    shrink by what is taken."""
    state, shape = proposal.state, fit.shape
    table = state.pod_fit.table
    if table is None:
        return
    left = fit.unmet
    nodes = []
    for name, units in movable.items():
        node = _units_of(proposal, shape, table, name, units, resources)
        chosen = _fewest(proposal, shape, node, surplus) if node is not None else None
        if node is not None and chosen is not None:
            size = sum(unit.size for _, unit in chosen)
            nodes.append((size, sum(u.size for _, u in node.units), str(name), node))
    nodes.sort(key=lambda found: found[:3])
    for _, _, _, node in nodes:
        while left > 0:
            chosen = _fewest(proposal, shape, node, surplus)
            if chosen is None or not _move(proposal, shape, node, chosen, resources):
                break
            for key, unit in chosen:
                surplus[key] -= unit.size
                movable[node.name].remove((key, unit))
                node.units.remove((key, unit))
            left -= 1
    if left < fit.unmet:
        proposal.completed[shape] = proposal.completed.get(shape, 0) + fit.unmet - left


def _units_of(
    proposal: Proposal,
    shape: PodShape,
    table: CapacityTable,
    name: NodeName,
    units: list[tuple[GroupKey, Unit]],
    resources: NodeResources,
) -> _NodeUnits | None:
    state = proposal.state
    if state.node_filter.denial(shape.placement, name, shared=True):
        return None
    if shape.needs and resources.lacks(name, shape.needs):
        return None
    if proposal.direction(name) not in (None, Mode.SHARED):
        return None
    rows = np.flatnonzero(rows_for(table, shape) & (table.nodes == table.hosts.index_of(name)))
    accepted = [(key, unit) for key, unit in units if any(shape.accepts(gpu) for gpu in unit.gpus)]
    return _NodeUnits(name, [table.card(int(row)) for row in rows], accepted) if accepted else None


def _fewest(
    proposal: Proposal, shape: PodShape, node: _NodeUnits, surplus: dict[GroupKey, int]
) -> list[tuple[GroupKey, Unit]] | None:
    """The fewest of the node's units with which it can serve one more pod whole; None where it cannot with all."""
    chosen: list[tuple[GroupKey, Unit]] = []
    spare = dict(surplus)
    for key, unit in node.units:
        if spare.get(key, 0) < unit.size:
            continue
        spare[key] -= unit.size
        chosen.append((key, unit))
        if place_whole([*node.cards, *_cards(proposal, shape, node, chosen)], shape.asks) is not None:
            return chosen
    return None


def _cards(
    proposal: Proposal, shape: PodShape, node: _NodeUnits, units: list[tuple[GroupKey, Unit]]
) -> list[Card]:
    """Units as empty shared cards."""
    cards: list[Card] = []
    for key, unit in units:
        size = card_size(proposal.state.inventory.groups[key])
        for gpu in unit.gpus:
            if shape.accepts(gpu):
                cards.append(Card(-1 - node.came - len(cards), size, size, FULL_CORES, DEFAULT_SPLIT, True))
    return cards


def _move(
    proposal: Proposal,
    shape: PodShape,
    node: _NodeUnits,
    chosen: list[tuple[GroupKey, Unit]],
    resources: NodeResources,
) -> bool:
    """Move all of them, or none where a budget denies one."""
    asked: dict[str, int] = {}
    for key, unit in chosen:
        asked[key[0]] = asked.get(key[0], 0) + unit.size
    for key, _ in chosen:
        denial = proposal.budgets[key[0]].denial(Mode.SHARED, asked[key[0]])
        if denial is not None:
            proposal.hold_back(key, denial)
            return False
    new = _cards(proposal, shape, node, chosen)
    node.cards = place_whole([*node.cards, *new], shape.asks) or node.cards
    node.came += len(new)
    resources.take(node.name, shape.needs)
    for key, unit in chosen:
        message = (
            f"{name_of(unit.gpus[0])} is idle: with it, {node.name} has room for all slices of a waiting pod"
        )
        proposal.move(key, unit, Mode.SHARED, Reason.SHARED_DEMAND, message)
        proposal.take_free(key, node.name, unit.size)
    return True
