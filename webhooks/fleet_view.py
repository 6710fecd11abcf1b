"""What the webhooks know of the fleet: one immutable value, made from the cluster's objects in the background.

What makes it is pure. The feed that asks for it lives in the composition root; decisions get the value, or
None where nothing trustworthy is known, and then let every request pass.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from poolmgr.domain.fleet import Gpu, Node, Pool, Transition
from poolmgr.domain.identifiers import GpuUuid, NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Taint
from poolmgr.domain.usage import GpuState, in_use, is_leaving, is_open, state_of
from poolmgr.wire.hami.config import HamiConfig


class FleetFeed(Protocol):
    """Where decisions get the view from; answers at once."""

    def current(self) -> "FleetView | None":
        """The newest view, or None while there is none that can be trusted."""
        ...


@dataclass(frozen=True, slots=True)
class NodeCount:
    """GPUs of one resource on one node."""

    total: int
    free: int
    """In Passthrough, meant to stay there, advertised or about to be, and with nobody."""


@dataclass(frozen=True, slots=True)
class ResourceCounts:
    """GPUs of one resource by node, and the most that one node has."""

    by_node: Mapping[NodeName, NodeCount]
    most: int
    most_free: int


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU and what admission asks about it."""

    gpu: Gpu
    moving: bool
    """A move names it."""
    leaving: bool
    free: bool
    """Idle in Passthrough, on a node that takes workloads."""
    usable: bool
    """Neither in trouble nor on a node that takes no workloads."""

    @classmethod
    def of(cls, gpu: Gpu, transition: Transition | None, open_: bool) -> "GpuView":
        state = state_of(gpu, transition, in_use(gpu, (), None))
        return cls(
            gpu,
            transition is not None and gpu.pci_address in transition.devices,
            is_leaving(gpu, transition),
            open_ and state is GpuState.IDLE and gpu.observed_mode is Mode.PASSTHROUGH,
            open_ and state is not GpuState.TROUBLE,
        )


@dataclass(frozen=True, slots=True)
class ModelView:
    """All GPUs of one product name."""

    model: str
    memory_mib: int
    gpus: int
    most_on_a_node: int
    in_passthrough: int
    free: int
    """Of these, the ones that a machine could get now."""
    unusable: int
    """In trouble, or on nodes that take no workloads."""
    in_shared: int
    arriving: int
    """On their way to Passthrough."""
    limits: Mapping[Mode, int]
    """The most GPUs of the model that the pools let be in a mode at once."""
    pools: tuple[Pool, ...]


@dataclass(frozen=True, slots=True)
class FleetView:
    """Indexed so that a decision takes microseconds whatever the size of the fleet."""

    models: Mapping[str, ModelView]
    """By product name in lower case."""
    resources: Mapping[str, ResourceCounts]
    """By resource name as VMs ask for it."""
    models_of_resource: Mapping[str, tuple[str, ...]]
    leaving: frozenset[GpuUuid]
    uuids: frozenset[GpuUuid]
    pools: tuple[Pool, ...]
    census: Mapping[NodeName, Mapping[str, int]]
    """GPUs by node and product name."""
    compositions: frozenset[tuple[tuple[str, int], ...]]
    """The different censuses that nodes have: a handful, however many nodes there are."""
    node_labels: Mapping[NodeName, dict[str, str]]
    node_taints: Mapping[NodeName, tuple[Taint, ...]] = field(default_factory=dict)
    foreign_resources: Mapping[str, int] = field(default_factory=dict)
    """Resources that nodes offer from elsewhere than our agent → the most that one node has."""
    uncovered: tuple[NodeName, ...] = ()
    """Nodes that offer slices but have no agent: what they hold is not known, so nothing is impossible."""

    @property
    def empty(self) -> bool:
        """No agent has reported a GPU."""
        return not self.census

    def named(self, model: str) -> ModelView | None:
        return self.models.get(model.casefold())

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(sorted(view.model for view in self.models.values()))


@dataclass(frozen=True, slots=True)
class SeenNode:
    """What one node adds to a view."""

    name: NodeName
    labels: dict[str, str]
    gpus: tuple[GpuView, ...]
    census: dict[str, int]
    taints: tuple[Taint, ...] = ()

    @classmethod
    def of(cls, node: Node) -> "SeenNode":
        open_ = is_open(node)
        gpus = tuple([GpuView.of(gpu, node.transition, open_) for gpu in node.gpus])
        return cls(
            node.name,
            dict(node.labels),
            gpus,
            dict(Counter(gpu.model for gpu in node.gpus)),
            node.lasting_taints,
        )


def fleet_view_of(nodes: Iterable[Node], pools: tuple[Pool, ...]) -> FleetView:
    """The view of `nodes`, which have an agent, and of `pools`, the oldest first."""
    return view_of([SeenNode.of(node) for node in nodes], pools, {}, HamiConfig().count)


def view_of(
    nodes: Sequence[SeenNode],
    pools: tuple[Pool, ...],
    offers: Mapping[NodeName, Mapping[str, int]],
    slice_resource: str,
) -> FleetView:
    """`offers` is what each node of the cluster offers of extended resources; `slice_resource` among it marks one that
    serves shared GPUs."""
    gpus = [view for node in nodes for view in node.gpus]
    census = {node.name: node.census for node in nodes if node.census}
    labels = {node.name: node.labels for node in nodes}
    counts = _count_resources(gpus)
    foreign: dict[str, int] = {}
    for name, resources in offers.items():
        for resource, amount in resources.items():
            if not (name in census and resource in counts):
                foreign[resource] = max(foreign.get(resource, 0), amount)
    models_of_resource: dict[str, set[str]] = defaultdict(set)
    for view in gpus:
        if view.gpu.resource_name:
            models_of_resource[view.gpu.resource_name].add(view.gpu.model)
    return FleetView(
        models=_models(gpus, pools),
        resources=counts,
        models_of_resource={key: tuple(sorted(value)) for key, value in models_of_resource.items()},
        leaving=frozenset(view.gpu.uuid for view in gpus if view.leaving and view.gpu.uuid),
        uuids=frozenset(view.gpu.uuid for view in gpus if view.gpu.uuid),
        pools=pools,
        census=census,
        compositions=frozenset(tuple(sorted(models.items())) for models in census.values()),
        node_labels=labels,
        node_taints={node.name: node.taints for node in nodes if node.taints},
        foreign_resources=foreign,
        uncovered=tuple(
            sorted(
                name
                for name, resources in offers.items()
                if name not in census and resources.get(slice_resource, 0) > 0
            )
        ),
    )


def _count_resources(gpus: Iterable[GpuView]) -> dict[str, ResourceCounts]:
    totals: dict[str, dict[NodeName, list[int]]] = defaultdict(dict)
    for view in gpus:
        if view.gpu.resource_name:
            count = totals[view.gpu.resource_name].setdefault(view.gpu.node, [0, 0])
            count[0] += 1
            count[1] += view.free
    return {
        resource: ResourceCounts(
            by_node={node: NodeCount(total, free) for node, (total, free) in by_node.items()},
            most=max(total for total, _ in by_node.values()),
            most_free=max(free for _, free in by_node.values()),
        )
        for resource, by_node in totals.items()
    }


def _models(gpus: Iterable[GpuView], pools: tuple[Pool, ...]) -> dict[str, ModelView]:
    by_model: dict[str, list[GpuView]] = defaultdict(list)
    for view in gpus:
        if view.gpu.model:
            by_model[view.gpu.model.casefold()].append(view)
    return {key: _model(members, pools) for key, members in by_model.items()}


def _model(members: list[GpuView], pools: tuple[Pool, ...]) -> ModelView:
    on_node: dict[NodeName, int] = defaultdict(int)
    in_pool: dict[PoolName | None, int] = defaultdict(int)
    for view in members:
        on_node[view.gpu.node] += 1
        in_pool[view.gpu.pool] += 1
    by_name = {pool.name: pool for pool in pools}

    def limit(mode: Mode) -> int:
        total = 0
        for name, held in in_pool.items():
            most = by_name[name].side(mode).max if name is not None else None
            total += held if most is None else min(held, most)
        return total

    return ModelView(
        model=members[0].gpu.model,
        memory_mib=max(view.gpu.memory_mib for view in members),
        gpus=len(members),
        most_on_a_node=max(on_node.values()),
        in_passthrough=sum(
            v.gpu.observed_mode is Mode.PASSTHROUGH and not v.moving and v.usable for v in members
        ),
        free=sum(view.free for view in members),
        unusable=sum(not view.usable for view in members),
        in_shared=sum(v.gpu.observed_mode is Mode.SHARED and not v.leaving and v.usable for v in members),
        arriving=sum(view.leaving for view in members),
        limits={mode: limit(mode) for mode in Mode},
        pools=tuple(pool for pool in pools if pool.name in in_pool),
    )
