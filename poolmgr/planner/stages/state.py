"""A plan in the making, and how a stage changes it.

A stage reads the `PlanState` and answers with a `StageResult`; only `PlanState.apply` changes anything. While it works, a
stage keeps what it has chosen so far in a `Proposal`, so that its next choice counts it and nobody else sees it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from poolmgr.domain.demand import Gate, Vm
from poolmgr.domain.denials import Denial
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import unbound_pods
from poolmgr.domain.placement import FreeResources, Placement
from poolmgr.domain.plan import Admission, Move, Refusal
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.budgets import PoolBudget
from poolmgr.planner.charges import Workload
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey, NodeInventory, Unit
from poolmgr.planner.inventory.node_filter import NodeFilter
from poolmgr.planner.inventory.node_resources import NodeResources
from poolmgr.planner.inventory.shared_fit import PodFit, PodShape, ShapeFit, fit_waiting_pods
from poolmgr.planner.quotas import Quotas
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
class StageResult:
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
    free_resources: Mapping[NodeName, FreeResources] = field(default_factory=dict)
    """What is left beside GPUs on nodes that got a workload."""
    completed: Mapping[PodShape, int] = field(default_factory=dict)
    """Waiting pods of several parts that the moves complete, by shape."""
    admissions: tuple[Admission, ...] = ()
    """Who may go on behind our gate."""


class PlanState:
    """What is left to give, and what has been decided so far. Changed by `apply` alone."""

    def __init__(
        self,
        snapshot: ClusterSnapshot,
        inventory: Inventory,
        budgets: dict[str, PoolBudget],
        headroom: Mapping[GroupKey, Headroom],
        reserved: Reserved | None = None,
        quotas: Quotas | None = None,
        *,
        explain: bool = True,
    ) -> None:
        """`explain=False` leaves out sentences about what stays as it is: for replays of weeks."""
        self.snapshot = snapshot
        self.inventory = inventory
        self.budgets = budgets
        self.headroom = headroom
        self.reserved = reserved or Reserved()
        self.quotas = quotas or Quotas(snapshot, inventory)
        self.explain = explain
        self.moves: list[Move] = []
        self.refusals: list[Refusal] = []
        self.admissions: tuple[Admission, ...] = ()
        self.moved_units: dict[int, Unit] = {}
        """The units that move, by id."""
        self.moved_uuids: set[str] = set()
        self.directions: dict[NodeName, Mode] = {}
        self.held_back: dict[GroupKey, Denial] = {}
        self.lent: frozenset[NodeName] = frozenset()
        self._nodes_in: dict[tuple[GroupKey, ...], list[NodeName]] = {}
        self.completed: dict[PodShape, int] = {}
        self.free_at_first = {
            key: sum(at.free for at in inventory.groups[key].nodes.values()) for key in self.reserved.groups
        }
        """GPUs of groups with reservations that were free before anything was given away."""
        self.node_resources = NodeResources({node.name: node for node in snapshot.nodes})

    @cached_property
    def node_filter(self) -> NodeFilter:
        """Which nodes may run what waits."""
        return NodeFilter(self.snapshot)

    def nodes_with(self, resource: str) -> Mapping[NodeName, int]:
        """Node → its pooled GPUs of the resource, for nodes that have any."""
        return self._nodes_with.get(resource, {})

    @cached_property
    def _nodes_with(self) -> dict[str, dict[NodeName, int]]:
        """Resource → its nodes."""
        found: defaultdict[str, dict[NodeName, int]] = defaultdict(dict)
        for node in self.inventory.nodes:
            for resource, (count, _) in node.resources.items():
                found[resource][node.node.name] = count
        return found

    def nodes_in(self, keys: tuple[GroupKey, ...]) -> list[NodeName]:
        """The nodes with GPUs of these groups, sorted by name."""
        known = self._nodes_in.get(keys)
        if known is None:
            names = {name for key in keys for name in self.inventory.groups[key].nodes}
            known = self._nodes_in[keys] = sorted(names)
        return known

    @cached_property
    def nodes_lent(self) -> dict[GroupKey, int]:
        """Nodes with GPUs of each group that take only best-effort pods now."""
        return {
            key: sum([at.node.best_effort_only for at in group.nodes.values()])
            for key, group in self.inventory.groups.items()
        }

    @cached_property
    def offered(self) -> frozenset[str]:
        """Resources that some node offers, whoever gives them out."""
        return frozenset(name for node in self.snapshot.nodes for name, _ in node.amounts_free)

    def is_queued(self, workload: Workload) -> bool:
        """Whether one behind our gate has to wait until there is room for it: whoever is let in before takes what falls
        free, in whatever order the scheduler has."""
        if workload.gate is not Gate.OURS:
            return False
        reserved = isinstance(workload, Vm) and self.reserved.may_wait(workload, self.inventory)
        return reserved or self.quotas.is_weighed(workload)

    @property
    def waiting_pods(self) -> list[ShapeFit]:
        """The waiting vGPU pods by shape, oldest shape first."""
        return self.pod_fit.shapes

    @cached_property
    def pod_fit(self) -> PodFit:
        """The waiting vGPU pods by shape, and how many of each fit without another move."""
        queued = {
            pod.uid: self.quotas.turn(pod) for pod in unbound_pods(self.snapshot.pods) if self.is_queued(pod)
        }
        return fit_waiting_pods(
            self.snapshot, self.inventory, self.node_filter, self.resources_for_pods, queued
        )

    @cached_property
    def resources_for_pods(self) -> NodeResources:
        """What nodes have left beside GPUs for pods that wait; `pod_fit` takes from it."""
        return NodeResources({}, self.node_resources)

    def apply(self, result: StageResult) -> None:
        for move in result.moves:
            self._move(move)
        for key, nodes in result.nodes.items():
            self.inventory.groups[key].nodes.update(nodes)
        for key, gpus in result.taken.items():
            self.inventory.groups[key].free -= gpus
        self.refusals += result.refusals
        self.admissions += result.admissions
        self.held_back.update(result.held_back)
        self.lent |= result.lent
        self.node_resources.changed.update(result.free_resources)
        self.completed.update(result.completed)

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
    """One stage's work: the state as it will be if the result is applied."""

    def __init__(self, state: PlanState) -> None:
        self.state = state
        self.budgets = {name: replace(budget) for name, budget in state.budgets.items()}
        self.held_back: dict[GroupKey, Denial] = {}
        self.refusals: list[Refusal] = []
        self.lent: set[NodeName] = set()
        self.node_resources = NodeResources({}, state.node_resources)
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

    def result(self) -> StageResult:
        return StageResult(
            tuple(self._moves),
            self._nodes,
            self._taken,
            tuple(self.refusals),
            self.held_back,
            frozenset(self.lent),
            self.node_resources.changed,
            self.completed,
        )


def no_node_admits(
    state: PlanState, placement: Placement, names: Collection[NodeName], *, shared: bool = False
) -> Denial:
    """To a workload that none of `names`, the nodes with GPUs of its kind, admits."""
    if placement.unknown:
        return Reason.PLACEMENT_UNKNOWN, f"no GPU is moved for it: {placement.unknown}"
    return (
        Reason.NO_NODE_ADMITS,
        f"it cannot run on any of the {len(names)} node(s) with such GPUs: "
        f"{state.node_filter.why_none(placement, names, shared=shared)}; moving GPUs would not help",
    )


class Stage(Protocol):
    """One step of a decision: picks from what the stages before left, and changes nothing."""

    def __call__(self, state: PlanState, /) -> StageResult: ...
