"""What the webhooks know of the fleet: one immutable value, made from the cluster's objects in the background.

What makes it is pure. The feed that asks for it lives in the composition root; decisions get the value, or
None where nothing trustworthy is known, and then let every request pass.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from poolmgr.domain.calendar import Capacity, capacity_of
from poolmgr.domain.fleet import Node, Pool
from poolmgr.domain.identifiers import GpuUuid, NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Taint
from poolmgr.domain.plan import QuotaUse
from poolmgr.domain.quota import limited_namespaces
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import Reservation
from poolmgr.wire.hami.config import HamiConfig
from webhooks.gpu_view import GpuView, SeenNode
from webhooks.kinds import PoolKind, kinds_of

QuotaUses = Mapping[tuple[PoolName, str], float]


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
class Promise:
    """A reservation that is promised and not over, and what the manager keeps for it now."""

    reservation: Reservation
    kept: int
    """GPUs to which nobody else is admitted."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What of one model may come to serve one side."""

    arriving: int
    """On their way to it."""
    given: Mapping[NodeName, int]
    """By node: those that new users could get there, or can once a move under way is over."""
    movable: Mapping[NodeName, int]
    """By node: those of the other side that poolmgr would move once nobody uses them."""
    held: tuple[Reason, ...]
    """What holds the others on that other side."""


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
    outlook: Mapping[Mode, Outlook]
    limits: Mapping[Mode, int]
    """The most GPUs of the model that the pools let be in a mode at once."""
    pools: tuple[Pool, ...]
    capacity: Capacity
    """What of it can be promised."""


@dataclass(frozen=True, slots=True)
class FleetView:
    """Indexed so that a decision takes microseconds whatever the size of the fleet."""

    models: Mapping[str, ModelView]
    """By product name in lower case."""
    resources: Mapping[str, ResourceCounts]
    """By resource name as VMs ask for it."""
    models_of_resource: Mapping[str, tuple[str, ...]]
    closed_to_pods: frozenset[GpuUuid]
    """Those that no new pod may get: they leave the shared side, or an operator withdraws them from there."""
    leaving: frozenset[GpuUuid]
    """On their way to passthrough."""
    uuids: frozenset[GpuUuid]
    pools: tuple[Pool, ...]
    kinds: tuple[PoolKind, ...]
    census: Mapping[NodeName, Mapping[str, int]]
    """GPUs by node and product name."""
    compositions: frozenset[tuple[tuple[str, int], ...]]
    """The different censuses that nodes have: a handful, however many nodes there are."""
    node_labels: Mapping[NodeName, dict[str, str]]
    node_taints: Mapping[NodeName, tuple[Taint, ...]] = field(default_factory=dict)
    withheld_labels: Mapping[NodeName, dict[str, str]] = field(default_factory=dict)
    """Of nodes off which a move of ours took labels: they are back once it is over."""
    quota_uses: QuotaUses = field(default_factory=dict)
    """(pool, namespace) → GPUs that count against the quota, and those asked for by what waits to be admitted."""
    promises: tuple[Promise, ...] = ()
    limited: frozenset[str] = frozenset()
    """Namespaces that may have only so much of some pool."""
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

    def kinds_of(self, models: Iterable[str]) -> list[PoolKind]:
        """Those of one of `models`."""
        wanted = {model.casefold() for model in models}
        return [kind for kind in self.kinds if kind.model.casefold() in wanted]

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(sorted(view.model for view in self.models.values()))


def fleet_view_of(
    nodes: Iterable[Node],
    pools: tuple[Pool, ...],
    quota_uses: Iterable[QuotaUse] = (),
    promises: tuple[Promise, ...] = (),
    now: float = 0.0,
) -> FleetView:
    """The view of `nodes`, which have an agent, and of `pools`, the oldest first, at `now`."""
    uses = {(use.pool, use.namespace): use.used + use.waiting for use in quota_uses}
    by_name = {pool.name: pool for pool in pools}
    seen = [SeenNode.of(node, by_name, now) for node in nodes]
    return view_of(seen, pools, {}, HamiConfig().count, uses, promises)


def view_of(
    nodes: Sequence[SeenNode],
    pools: tuple[Pool, ...],
    offers: Mapping[NodeName, Mapping[str, int]],
    slice_resource: str,
    quota_uses: QuotaUses,
    promises: tuple[Promise, ...] = (),
) -> FleetView:
    """`offers` is what each node of the cluster offers of extended resources; `slice_resource` among it marks one that
    serves shared GPUs. `quota_uses` and `promises` as in the view."""
    gpus = [view for node in nodes for view in node.gpus]
    census = {node.name: node.census for node in nodes if node.census}
    labels = {node.name: node.labels for node in nodes}
    counts = _count_resources(gpus)
    foreign: dict[str, int] = {}
    for name, resources in offers.items():
        for resource, amount in resources.items():
            # Of other nodes' reports nothing follows for this one: a node that lies would hide what the others offer.
            if resource not in counts or (amount and name not in counts[resource].by_node):
                foreign[resource] = max(foreign.get(resource, 0), amount)
    models_of_resource: dict[str, set[str]] = defaultdict(set)
    for view in gpus:
        if view.gpu.resource_name:
            models_of_resource[view.gpu.resource_name].add(view.gpu.model)
    return FleetView(
        models=_models(gpus, pools),
        resources=counts,
        models_of_resource={key: tuple(sorted(value)) for key, value in models_of_resource.items()},
        closed_to_pods=frozenset(view.gpu.uuid for view in gpus if view.closed_to_pods and view.gpu.uuid),
        leaving=frozenset(view.gpu.uuid for view in gpus if view.leaving and view.gpu.uuid),
        uuids=frozenset(view.gpu.uuid for view in gpus if view.gpu.uuid),
        pools=pools,
        kinds=kinds_of(gpus, pools),
        census=census,
        compositions=frozenset(tuple(sorted(models.items())) for models in census.values()),
        node_labels=labels,
        node_taints={node.name: node.taints for node in nodes if node.taints},
        withheld_labels={node.name: node.withheld_labels for node in nodes if node.withheld_labels},
        quota_uses=quota_uses,
        limited=limited_namespaces(pools),
        promises=promises,
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
        outlook={mode: _outlook(members, mode) for mode in Mode},
        limits={mode: limit(mode) for mode in Mode},
        pools=tuple(pool for pool in pools if pool.name in in_pool),
        capacity=capacity_of({pool: in_pool[pool.name] for pool in pools if pool.name in in_pool}),
    )


def _outlook(members: Iterable[GpuView], mode: Mode) -> Outlook:
    arriving = 0
    given, movable = Counter[NodeName](), Counter[NodeName]()
    held: set[Reason] = set()
    for view in members:
        if view.side is mode:
            arrives = view.arrives_in is mode
            arriving += arrives
            given[view.gpu.node] += arrives or view.free or mode is Mode.SHARED
        elif view.side is not None:
            if view.held is None:
                movable[view.gpu.node] += 1
            else:
                held.add(view.held)
    return Outlook(arriving, given, movable, tuple(sorted(held)))
