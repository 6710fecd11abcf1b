"""The supply as a planner sees it: per pool and model, which GPUs are free, on their way, and movable.

One pass over the snapshot. Every GPU ends up in exactly one place: refused with its objection, or in the
stock of its node as free, idle, or evictable; later stages only ever pick from the stock, so what the rules
of `eligibility` refuse cannot be moved by any planner built on it.
"""

from collections import Counter
from dataclasses import dataclass, field

from poolmgr.domain.fleet import Gpu, Granularity, Node, Pool
from poolmgr.domain.identifiers import NodeName, WorkloadUid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.eligibility import (
    Objection,
    gpu_objection,
    lost_work,
    name_of,
    not_in_pool,
    use_objection,
)
from poolmgr.planner.usage import Usage

ShelfKey = tuple[str, str]
"""(pool name, model)."""


@dataclass(slots=True)
class Unit:
    """GPUs of one node that can only move together: one, an NVSwitch domain, or a whole node."""

    gpus: tuple[Gpu, ...]
    lost_gpu_seconds: float = 0.0
    """Work that moving it throws away."""
    evict: tuple[WorkloadUid, ...] = ()
    held_until: float = 0.0
    """End of its cooldown, Unix seconds."""

    @property
    def size(self) -> int:
        return len(self.gpus)


@dataclass(slots=True)
class NodeStock:
    """What one node has of one model of one pool."""

    node: Node
    free: int = 0
    """Passthrough GPUs that the scheduler can give to a VM now."""
    incoming: int = 0
    """GPUs on their way to passthrough."""
    to_passthrough: list[Unit] = field(default_factory=list)
    """Idle shared units."""
    by_eviction: list[Unit] = field(default_factory=list)
    """Shared units that are free once best-effort pods have been evicted."""
    to_shared: list[Unit] = field(default_factory=list)
    """Idle passthrough units; a part of `free`."""


@dataclass(slots=True)
class Shelf:
    """One model of one pool. Counts are GPUs."""

    pool: Pool
    model: str
    nodes: dict[NodeName, NodeStock] = field(default_factory=dict)
    gpus: int = 0
    passthrough: int = 0
    """Wanted in passthrough, moving ones included."""
    shared: int = 0
    moving: int = 0
    vm_busy: int = 0
    shared_busy: int = 0
    largest_node: int = 0

    @property
    def free(self) -> int:
        return sum(stock.free + stock.incoming for stock in self.nodes.values())


@dataclass(slots=True)
class Stock:
    usage: Usage
    shelves: dict[ShelfKey, Shelf]
    refused: list[tuple[Gpu, Objection]]
    """GPUs that no rule lets move, and why."""
    shelves_by_resource: dict[str, list[ShelfKey]]
    largest_by_resource: Counter[str]
    """Most GPUs of the resource on any one node."""

    def pool_shelves(self, pool: Pool) -> list[Shelf]:
        return [shelf for (name, _), shelf in self.shelves.items() if name == pool.name]


def take_stock(snapshot: ClusterSnapshot, usage: Usage) -> Stock:
    """Sort every GPU of the snapshot into the stock. O(GPUs + slices)."""
    pools = {pool.name: pool for pool in snapshot.pools}
    stock = Stock(usage, {}, [], {}, Counter())
    for node in snapshot.nodes:
        groups = Counter(g.iommu_group for g in node.gpus if g.iommu_group is not None)
        members: dict[ShelfKey, list[Gpu]] = {}
        for gpu in node.gpus:
            pool = pools.get(gpu.pool) if gpu.pool is not None else None
            if pool is None:
                stock.refused.append((gpu, not_in_pool(gpu)))
                continue
            key = (str(pool.name), gpu.model)
            if key not in stock.shelves:
                stock.shelves[key] = Shelf(pool, gpu.model)
            members.setdefault(key, []).append(gpu)
        for resource, count in Counter(g.resource_name for g in node.gpus if g.resource_name).items():
            stock.largest_by_resource[resource] = max(stock.largest_by_resource[resource], count)
        for key, gpus in members.items():
            for resource in {g.resource_name for g in gpus if g.resource_name}:
                if key not in stock.shelves_by_resource.setdefault(resource, []):
                    stock.shelves_by_resource[resource].append(key)
            _shelve(stock, stock.shelves[key], node, gpus, groups, snapshot.taken_at)
    return stock


def _shelve(
    stock: Stock, shelf: Shelf, node: Node, gpus: list[Gpu], groups: Counter[int], now: float
) -> None:
    """Put one node's GPUs of one shelf where they belong."""
    shelf.gpus += len(gpus)
    shelf.largest_node = max(shelf.largest_node, len(gpus))
    at = shelf.nodes[node.name] = NodeStock(node)
    unplaced = 0
    if stock.usage.unplaced:
        unplaced = sum(stock.usage.unplaced[(node.name, r)] for r in {g.resource_name for g in gpus})
    bundles: dict[str, list[tuple[Gpu, Objection | None]]] = {}
    for gpu in gpus:
        objection = gpu_objection(gpu, node, shelf.pool, groups) or use_objection(gpu, stock.usage)
        _count(shelf, at, gpu, node, busy=objection is not None and objection[0] is Reason.GPU_BUSY)
        bundles.setdefault(_bundle_of(shelf.pool, gpu), []).append((gpu, objection))
    if unplaced:
        at.free = max(0, at.free - unplaced)
    for bundle in bundles.values():
        _sort_bundle(stock, shelf, at, bundle, unplaced, now)


def _bundle_of(pool: Pool, gpu: Gpu) -> str:
    """GPUs with equal answers move together or not at all."""
    if pool.granularity is Granularity.NODE:
        return "node"
    return gpu.nvswitch_domain or gpu.pci_address


def _count(shelf: Shelf, at: NodeStock, gpu: Gpu, node: Node, *, busy: bool) -> None:
    wanted = gpu.desired_mode or gpu.observed_mode
    arriving = gpu.observed_mode is not wanted or gpu.phase is DevicePhase.MOVING
    shelf.passthrough += wanted is Mode.PASSTHROUGH
    shelf.shared += wanted is Mode.SHARED
    shelf.moving += arriving or (node.transition is not None and gpu.pci_address in node.transition.devices)
    if busy:
        shelf.vm_busy += wanted is Mode.PASSTHROUGH
        shelf.shared_busy += wanted is Mode.SHARED
    usable = node.ready and (not node.cordoned or node.cordoned_by_us)
    sound = gpu.phase in (DevicePhase.READY, DevicePhase.MOVING)
    if wanted is Mode.PASSTHROUGH and usable and sound and not busy and not gpu.allocated_to:
        if arriving or not gpu.advertised:
            at.incoming += 1
        else:
            at.free += 1


def _sort_bundle(
    stock: Stock,
    shelf: Shelf,
    at: NodeStock,
    bundle: list[tuple[Gpu, Objection | None]],
    unplaced: int,
    now: float,
) -> None:
    gpus = tuple(gpu for gpu, _ in bundle)
    objections = [o for _, o in bundle if o is not None]
    modes = {gpu.observed_mode for gpu in gpus}
    if not objections and len(modes) == 1:
        held_until = max(g.mode_since for g in gpus) + shelf.pool.cooldown_seconds
        unit = Unit(gpus, held_until=held_until)
        if modes == {Mode.SHARED}:
            at.to_passthrough.append(unit)
        elif unplaced:
            text = f"a VM is bound to {at.node.name} and its GPU is not yet known"
            stock.refused.extend((g, (Reason.GPU_BUSY, f"{name_of(g)} may be busy: {text}")) for g in gpus)
        else:
            at.to_shared.append(unit)
        return
    if modes == {Mode.SHARED} and all(o[0] is Reason.GPU_BUSY for o in objections):
        unit_or_none = _evictable(stock, shelf, bundle, now)
        if unit_or_none is not None:
            at.by_eviction.append(unit_or_none)
            return
    partner = objections[0][1] if objections else "they are in different modes"
    for gpu, objection in bundle:
        alone = (Reason.NOT_CHOSEN, f"{name_of(gpu)} moves only with its neighbours, and {partner}")
        stock.refused.append((gpu, objection or alone))


def _evictable(
    stock: Stock, shelf: Shelf, bundle: list[tuple[Gpu, Objection | None]], now: float
) -> Unit | None:
    """The bundle as a unit that eviction would free; None where the pool or a pod does not allow it."""
    lost = 0.0
    victims: dict[WorkloadUid, None] = {}
    for gpu, objection in bundle:
        if objection is None:
            continue
        price = lost_work(gpu, shelf.pool, stock.usage, now)
        if price is None:
            return None
        lost += price[0]
        victims.update((pod.uid, None) for pod in price[1])
    return Unit(tuple(gpu for gpu, _ in bundle), lost, tuple(victims))
