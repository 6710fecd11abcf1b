"""What the webhooks know of the fleet: one immutable value, made from the cluster's objects in the background.

`fleet_view_of` is pure. The feed that calls it lives in the composition root; decisions get the value, or
None where nothing trustworthy is known, and then let every request pass.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from poolmgr.domain.fleet import (
    EvictionRule,
    Granularity,
    IdleVmAction,
    IdleVmPolicy,
    Pool,
    Quota,
    RebalanceMode,
    SideLimits,
)
from poolmgr.domain.identifiers import GpuUuid, NodeName, PoolName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.wire.instants import from_rfc3339
from poolmgr.wire.quantities import count

Object = Mapping[str, Any]
"""A Kubernetes object as decoded JSON."""


class FleetFeed(Protocol):
    """Where decisions get the view from; answers at once."""

    def current(self) -> "FleetView | None":
        """The newest view, or None while there is none that can be trusted."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """GPUs of one resource on one node."""

    total: int
    free: int
    """In Passthrough, meant to stay there, advertised or about to be, and with nobody."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """GPUs of one resource by node, and the most that one node has."""

    by_node: Mapping[NodeName, Room]
    most: int
    most_free: int


@dataclass(frozen=True, slots=True)
class GpuView:
    """The facts of one GPU that admission depends on."""

    node: NodeName
    uuid: GpuUuid
    model: str
    resource_name: str
    memory_mib: int
    mode: Mode | None
    desired: Mode | None
    in_transition: bool
    free: bool
    pool: PoolName | None

    @property
    def leaving(self) -> bool:
        """On its way out of the shared side, so that no new pod may be placed on it.

        A GPU that has arrived in Passthrough is not among them: HAMi no longer knows it, and naming it in
        a pod would keep that pod from it for good once it comes back.
        """
        return self.desired is Mode.PASSTHROUGH and (self.in_transition or self.mode is not Mode.PASSTHROUGH)


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
    rooms: Mapping[str, Rooms]
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


def fleet_view_of(
    gpu_nodes: Iterable[Object],
    gpu_pools: Iterable[Object],
    nodes: Iterable[Object] = (),
    *,
    slice_resource: str = "nvidia.com/gpu",
) -> FleetView:
    """The view of these objects. `slice_resource` is what marks a node as one that serves shared GPUs."""
    pools = tuple(sorted((pool_of(p) for p in gpu_pools), key=lambda pool: (pool.created_at, pool.name)))
    labels: dict[NodeName, dict[str, str]] = {}
    capacities: dict[NodeName, dict[str, str]] = {}
    for node in nodes:
        name = NodeName(node["metadata"]["name"])
        labels[name] = dict(node["metadata"].get("labels") or {})
        capacities[name] = dict((node.get("status") or {}).get("capacity") or {})
    gpus: list[GpuView] = []
    for gpu_node in gpu_nodes:
        gpus.extend(_gpus_of(gpu_node, pools, labels))
    rooms = _rooms(gpus)
    census: dict[NodeName, dict[str, int]] = {}
    for gpu in gpus:
        on_node = census.setdefault(gpu.node, {})
        on_node[gpu.model] = on_node.get(gpu.model, 0) + 1
    foreign: dict[str, int] = {}
    for name, capacity in capacities.items():
        for resource, amount in capacity.items():
            if "/" in resource and not (name in census and resource in rooms):
                foreign[resource] = max(foreign.get(resource, 0), count(amount))
    models_of_resource: dict[str, set[str]] = defaultdict(set)
    for gpu in gpus:
        if gpu.resource_name:
            models_of_resource[gpu.resource_name].add(gpu.model)
    return FleetView(
        models=_models(gpus, pools),
        rooms=rooms,
        models_of_resource={key: tuple(sorted(value)) for key, value in models_of_resource.items()},
        leaving=frozenset(gpu.uuid for gpu in gpus if gpu.leaving and gpu.uuid),
        uuids=frozenset(gpu.uuid for gpu in gpus if gpu.uuid),
        pools=pools,
        census=census,
        compositions=frozenset(tuple(sorted(models.items())) for models in census.values()),
        node_labels=labels,
        foreign_resources=foreign,
        uncovered=tuple(
            sorted(
                name
                for name, capacity in capacities.items()
                if name not in census and count(capacity.get(slice_resource, 0)) > 0
            )
        ),
    )


def pool_of(object_: Object) -> Pool:
    """The parts of a GPUPool that admission looks at. Defaults are those of the CRD."""
    spec = object_.get("spec") or {}
    created = object_["metadata"].get("creationTimestamp")
    rebalance = spec.get("rebalance") or {}
    return Pool(
        name=PoolName(object_["metadata"]["name"]),
        models=tuple(spec.get("models") or ()),
        node_labels=tuple(sorted(((spec.get("nodeSelector") or {}).get("matchLabels") or {}).items())),
        passthrough=_side(spec.get("passthrough") or {}),
        shared=_side(spec.get("shared") or {}),
        rebalance=RebalanceMode(rebalance.get("mode", RebalanceMode.AUTOMATIC)),
        granularity=Granularity(rebalance.get("granularity", Granularity.GPU)),
        max_in_flight=rebalance.get("maxInFlight", 1),
        idle_vm=IdleVmPolicy(
            action=IdleVmAction((spec.get("idleVM") or {}).get("action", IdleVmAction.IGNORE))
        ),
        eviction=EvictionRule(rebalance.get("eviction", EvictionRule.NEVER)),
        quotas=tuple(
            Quota(quota["namespace"], quota.get("maxGPUs"), quota.get("weight", 1.0))
            for quota in spec.get("quotas") or ()
        ),
        created_at=from_rfc3339(created) if created else math.inf,
    )


def _side(limits: Object) -> SideLimits:
    return SideLimits(limits.get("min", 0), limits.get("max"), limits.get("headroom", 0))


def _gpus_of(
    gpu_node: Object, pools: tuple[Pool, ...], labels: Mapping[NodeName, dict[str, str]]
) -> Iterable[GpuView]:
    name = NodeName(gpu_node["metadata"]["name"])
    spec = gpu_node.get("spec") or {}
    desired = {device["pciAddress"]: Mode(device["mode"]) for device in spec.get("devices") or ()}
    moving = frozenset((spec.get("transition") or {}).get("devices") or ())
    node_labels = labels.get(name, {})
    for device in (gpu_node.get("status") or {}).get("devices") or ():
        address = device["pciAddress"]
        model = device.get("model", "")
        mode = Mode(device["mode"]) if device.get("mode") else None
        wanted = desired.get(address)
        yield GpuView(
            node=name,
            uuid=GpuUuid(device.get("uuid", "")),
            model=model,
            resource_name=device.get("resourceName", ""),
            memory_mib=device.get("memoryMiB", 0),
            mode=mode,
            desired=wanted,
            in_transition=address in moving,
            free=(
                mode is Mode.PASSTHROUGH
                and wanted in (None, Mode.PASSTHROUGH)
                and address not in moving
                and device.get("phase", "Ready") == DevicePhase.READY
                and not device.get("allocatedTo")
                and not device.get("holders")
            ),
            pool=next((pool.name for pool in pools if pool.takes(model, node_labels)), None),
        )


def _rooms(gpus: Iterable[GpuView]) -> dict[str, Rooms]:
    totals: dict[str, dict[NodeName, list[int]]] = defaultdict(dict)
    for gpu in gpus:
        if gpu.resource_name:
            room = totals[gpu.resource_name].setdefault(gpu.node, [0, 0])
            room[0] += 1
            room[1] += gpu.free
    return {
        resource: Rooms(
            by_node={node: Room(total, free) for node, (total, free) in by_node.items()},
            most=max(total for total, _ in by_node.values()),
            most_free=max(free for _, free in by_node.values()),
        )
        for resource, by_node in totals.items()
    }


def _models(gpus: Iterable[GpuView], pools: tuple[Pool, ...]) -> dict[str, ModelView]:
    by_model: dict[str, list[GpuView]] = defaultdict(list)
    for gpu in gpus:
        if gpu.model:
            by_model[gpu.model.casefold()].append(gpu)
    return {key: _model(members, pools) for key, members in by_model.items()}


def _model(members: list[GpuView], pools: tuple[Pool, ...]) -> ModelView:
    on_node: dict[NodeName, int] = defaultdict(int)
    in_pool: dict[PoolName | None, int] = defaultdict(int)
    for gpu in members:
        on_node[gpu.node] += 1
        in_pool[gpu.pool] += 1
    by_name = {pool.name: pool for pool in pools}

    def limit(mode: Mode) -> int:
        total = 0
        for name, held in in_pool.items():
            most = by_name[name].side(mode).max if name is not None else None
            total += held if most is None else min(held, most)
        return total

    return ModelView(
        model=members[0].model,
        memory_mib=max(gpu.memory_mib for gpu in members),
        gpus=len(members),
        most_on_a_node=max(on_node.values()),
        in_passthrough=sum(gpu.mode is Mode.PASSTHROUGH and not gpu.in_transition for gpu in members),
        free=sum(gpu.free for gpu in members),
        in_shared=sum(gpu.mode is Mode.SHARED and not gpu.leaving for gpu in members),
        arriving=sum(gpu.desired is Mode.PASSTHROUGH and gpu.leaving for gpu in members),
        limits={mode: limit(mode) for mode in Mode},
        pools=tuple(pool for pool in pools if pool.name in in_pool),
    )
