"""A plan in the making, and how a stage changes it.

A stage reads the `PlanState` and answers with an `Effect`; only `PlanState.apply` changes anything. While it works, a
stage keeps what it has chosen so far in a `Proposal`, so that its next choice counts it and nobody else sees it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Placement, Room
from poolmgr.domain.plan import Move, Refusal
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.budgets import PoolBudget
from poolmgr.planner.inventory.eligibility import Denial
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey, NodeInventory, Unit
from poolmgr.planner.inventory.node_filter import NodeFilter
from poolmgr.planner.inventory.rooms import Rooms
from poolmgr.planner.inventory.shared_fit import PodFit, PodShape, ShapeFit, fit_waiting_pods
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.sizing.reservations import Reserved


@dataclass(frozen=True, slots=True)
class UnitMove:
    """GPUs of one group that are to change sides together."""

    key: GroupKey
    unit: Unit
    to_mode: Mode
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What a stage wants done."""

    moves: tuple[UnitMove, ...] = ()
    nodes: Mapping[GroupKey, Mapping[NodeName, NodeInventory]] = field(default_factory=dict)
    """What is left of nodes of which GPUs were given away."""
    taken: Mapping[GroupKey, int] = field(default_factory=dict)
    """Of the GPUs that were free or on their way to passthrough, how many are somebody's now."""
    refusals: tuple[Refusal, ...] = ()
    held_back: Mapping[GroupKey, Denial] = field(default_factory=dict)
    """What stopped further moves from a group: becomes the reason of its idle GPUs."""
    lent: frozenset[NodeName] = frozenset()
    """Nodes that are to take new best-effort containers only."""
    rooms: Mapping[NodeName, Room] = field(default_factory=dict)
    """What is left beside GPUs on nodes that got a workload."""
    completed: Mapping[PodShape, int] = field(default_factory=dict)
    """Waiting pods of several parts that the moves complete, by shape."""


class PlanState:
    """What is left to give, and what has been decided so far. Changed by `apply` alone."""

    def __init__(
        self,
        snapshot: ClusterSnapshot,
        inventory: Inventory,
        budgets: dict[str, PoolBudget],
        headroom: Mapping[GroupKey, Headroom],
        reserved: Reserved | None = None,
        *,
        explain: bool = True,
    ) -> None:
        """`explain=False` leaves out sentences about what stays as it is: for replays of weeks."""
        self.snapshot = snapshot
        self.inventory = inventory
        self.budgets = budgets
        self.headroom = headroom
        self.reserved = reserved or Reserved({}, {})
        self.explain = explain
        self.moves: list[Move] = []
        self.refusals: list[Refusal] = []
        self.moved_units: dict[int, Unit] = {}
        """The units that move, by id."""
        self.moved_uuids: set[str] = set()
        self.directions: dict[NodeName, Mode] = {}
        self.held_back: dict[GroupKey, Denial] = {}
        self.lent: frozenset[NodeName] = frozenset()
        self._nodes_with: dict[str, dict[NodeName, int]] = {}
        self.completed: dict[PodShape, int] = {}
        self.rooms = Rooms({node.name: node for node in snapshot.nodes})

    @cached_property
    def node_filter(self) -> NodeFilter:
        """Which nodes may run what waits."""
        return NodeFilter(self.snapshot)

    def nodes_with(self, resource: str) -> Mapping[NodeName, int]:
        """Node → its pooled GPUs of the resource, for nodes that have any."""
        known = self._nodes_with.get(resource)
        if known is None:
            known = self._nodes_with[resource] = {
                node.node.name: node.resources[resource][0]
                for node in self.inventory.nodes
                if resource in node.resources
            }
        return known

    @cached_property
    def offered(self) -> frozenset[str]:
        """Resources that some node offers, whoever gives them out."""
        return frozenset(name for node in self.snapshot.nodes for name, _ in node.amounts_free)

    @property
    def waiting_pods(self) -> list[ShapeFit]:
        """The waiting vGPU pods by shape, oldest shape first."""
        return self.pod_fit.shapes

    @cached_property
    def pod_fit(self) -> PodFit:
        """The waiting vGPU pods by shape, and how many of each fit without another move."""
        return fit_waiting_pods(self.snapshot, self.inventory, self.node_filter, self.rooms_of_pods)

    @cached_property
    def rooms_of_pods(self) -> Rooms:
        """What nodes have left beside GPUs for pods that wait; `pod_fit` takes from it."""
        return Rooms({}, self.rooms)

    def apply(self, effect: Effect) -> None:
        for move in effect.moves:
            self._move(move)
        for key, nodes in effect.nodes.items():
            self.inventory.groups[key].nodes.update(nodes)
        for key, gpus in effect.taken.items():
            self.inventory.groups[key].free -= gpus
        self.refusals += effect.refusals
        self.held_back.update(effect.held_back)
        self.lent |= effect.lent
        self.rooms.changed.update(effect.rooms)
        self.completed.update(effect.completed)

    def _move(self, move: UnitMove) -> None:
        group, unit = self.inventory.groups[move.key], move.unit
        self.budgets[move.key[0]].spend(move.to_mode, unit.size)
        self.moved_units[id(unit)] = unit
        self.directions[unit.gpus[0].node] = move.to_mode
        for gpu in unit.gpus:
            self.moved_uuids.add(gpu.uuid)
            self.moves.append(
                Move(
                    gpu.node,
                    gpu.pci_address,
                    gpu.uuid,
                    group.pool.name,
                    gpu.model,
                    move.to_mode,
                    move.reason,
                    move.message,
                    unit.evict,
                    unit.wait_for,
                    recommended=group.pool.recommend_only,
                )
            )


class Proposal:
    """One stage's work: the state as it will be if the effect is applied."""

    def __init__(self, state: PlanState) -> None:
        self.state = state
        self.budgets = {name: replace(budget) for name, budget in state.budgets.items()}
        self.held_back: dict[GroupKey, Denial] = {}
        self.refusals: list[Refusal] = []
        self.lent: set[NodeName] = set()
        self.rooms = Rooms({}, state.rooms)
        self.completed: dict[PodShape, int] = {}
        self._moves: list[UnitMove] = []
        self._moved_units: set[int] = set()
        self._directions: dict[NodeName, Mode] = {}
        self._nodes: dict[GroupKey, dict[NodeName, NodeInventory]] = {}
        self._taken: dict[GroupKey, int] = {}

    def is_moved(self, unit: Unit) -> bool:
        return id(unit) in self._moved_units or id(unit) in self.state.moved_units

    def moved_uuids(self) -> set[str]:
        """UUIDs of the GPUs that move."""
        return self.state.moved_uuids.union(gpu.uuid for move in self._moves for gpu in move.unit.gpus)

    def direction(self, node: NodeName) -> Mode | None:
        """The one way in which GPUs of the node move; None while none does."""
        return self._directions.get(node) or self.state.directions.get(node)

    def nodes(self, key: GroupKey) -> Mapping[NodeName, NodeInventory]:
        nodes = self.state.inventory.groups[key].nodes
        return {**nodes, **self._nodes[key]} if key in self._nodes else nodes

    def move(self, key: GroupKey, unit: Unit, to_mode: Mode, reason: Reason, message: str) -> None:
        """Nothing is asked here: budgets and directions are the caller's to look at."""
        self.budgets[key[0]].spend(to_mode, unit.size)
        self._moved_units.add(id(unit))
        self._directions[unit.gpus[0].node] = to_mode
        self._moves.append(UnitMove(key, unit, to_mode, reason, message))

    def hold_back(self, key: GroupKey, denial: Denial) -> None:
        """What stops further moves from a group; the first reason stays."""
        if key not in self.state.held_back:
            self.held_back.setdefault(key, denial)

    def take_free(self, key: GroupKey, name: NodeName, gpus: int) -> None:
        """`gpus` free GPUs of one node leave the side of VMs."""
        node = self._nodes.get(key, {}).get(name) or self.state.inventory.groups[key].nodes[name]
        self.take(key, gpus, {name: replace(node, free=node.free - gpus)})

    def take(self, key: GroupKey, gpus: int, nodes: Mapping[NodeName, NodeInventory]) -> None:
        """`gpus` that were free are somebody's now; `nodes` are what is left where they are."""
        self._taken[key] = self._taken.get(key, 0) + gpus
        self._nodes.setdefault(key, {}).update(nodes)

    def effect(self) -> Effect:
        return Effect(
            tuple(self._moves),
            self._nodes,
            self._taken,
            tuple(self.refusals),
            self.held_back,
            frozenset(self.lent),
            self.rooms.changed,
            self.completed,
        )


def no_node_admits(
    state: PlanState, placement: Placement, names: list[NodeName], *, shared: bool = False
) -> Denial:
    """To a workload that none of `names`, the nodes with GPUs of its kind, admits."""
    if placement.unknown:
        return Reason.PLACEMENT_UNKNOWN, f"nothing is moved for it: {placement.unknown}"
    return (
        Reason.NO_NODE_ADMITS,
        f"it may run on none of the {len(names)} node(s) with such GPUs: "
        f"{state.node_filter.why_none(placement, names, shared=shared)}; no move of GPUs could help it",
    )


class Stage(Protocol):
    """One step of a decision: picks from what the stages before left, and changes nothing."""

    def __call__(self, state: PlanState, /) -> Effect: ...
