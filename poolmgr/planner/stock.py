"""The supply as a planner sees it: per pool and model, which GPUs are free, on their way, and movable.

One pass over the snapshot. Every GPU ends up in exactly one place: in the stock of its node as free or idle,
among the busy ones, or refused; later stages only ever pick from the stock, so what the rules of
`eligibility` refuse cannot be moved by any planner built on it. Sentences are made later, by `explain`.
"""

from dataclasses import dataclass, field

from poolmgr.domain.fleet import Gpu, Granularity, Node, Pool, RebalanceMode
from poolmgr.domain.identifiers import NodeName, WorkloadUid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.eligibility import Objection, gpu_objection, lost_work, node_objection, use_objection
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
    wait_for: tuple[WorkloadUid, ...] = ()
    """Pods that are left to end before it moves."""
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
    draining: int = 0
    """GPUs on their way there once their pods have ended."""
    unplaced: int = 0
    """GPUs of VMs bound here whose devices are not yet known."""
    to_passthrough: list[Unit] = field(default_factory=list)
    """Idle shared units."""
    to_shared: list[Unit] = field(default_factory=list)
    """Idle passthrough units; a part of `free`."""
    busy_passthrough: list[Gpu] = field(default_factory=list)
    """GPUs that only a VM keeps where they are."""
    busy_shared: list[tuple[Gpu, ...]] = field(default_factory=list)
    """Units that only their pods keep where they are."""


@dataclass(slots=True)
class Shelf:
    """One model of one pool. Counts are GPUs."""

    pool: Pool
    model: str
    memory_mib: int
    """Of one card."""
    nodes: dict[NodeName, NodeStock] = field(default_factory=dict)
    gpus: int = 0
    passthrough: int = 0
    """Wanted in passthrough, moving ones included."""
    shared: int = 0
    moving: int = 0
    vm_busy: int = 0
    shared_busy: int = 0
    draining: int = 0
    """On their way to passthrough, but not before the pods on them have ended."""
    free: int = 0
    """Free in passthrough or on the way there, nobody's yet."""


@dataclass(slots=True)
class Stock:
    usage: Usage
    shelves: dict[ShelfKey, Shelf]
    refused: list[tuple[Gpu, Node, Pool | None, str]]
    """GPUs that no rule lets move; the last field is why a bundle's other members keep it, if they do."""
    shelves_by_resource: dict[str, list[ShelfKey]]
    largest_by_resource: dict[str, int]
    """Most GPUs of the resource on any one node."""
    taken_at: float

    def evictable(self, shelf: Shelf, gpus: tuple[Gpu, ...]) -> Unit | None:
        """The busy unit as one that eviction would free; None where the pool or a pod does not allow it."""
        lost = 0.0
        victims: dict[WorkloadUid, None] = {}
        for gpu in gpus:
            if gpu.uuid not in self.usage.pods_by_gpu and use_objection(gpu, self.usage) is None:
                continue
            price = lost_work(gpu, shelf.pool, self.usage, self.taken_at)
            if price is None:
                return None
            lost += price[0]
            victims.update((pod.uid, None) for pod in price[1])
        return Unit(gpus, lost, tuple(victims))


def take_stock(snapshot: ClusterSnapshot, usage: Usage) -> Stock:
    """Sort every GPU of the snapshot into the stock. O(GPUs + slices)."""
    pools = {str(pool.name): pool for pool in snapshot.pools}
    stock = Stock(usage, {}, [], {}, {}, snapshot.taken_at)
    for node in snapshot.nodes:
        members: dict[ShelfKey, list[Gpu]] = {}
        resources: dict[str, int] = {}
        for gpu in node.gpus:
            pool = pools.get(gpu.pool) if gpu.pool is not None else None
            if pool is None:
                stock.refused.append((gpu, node, None, ""))
                continue
            key = (gpu.pool or "", gpu.model)
            known = members.get(key)
            if known is None:
                members[key] = [gpu]
            else:
                known.append(gpu)
            resource = gpu.resource_name
            if resource:
                resources[resource] = resources.get(resource, 0) + 1
                keys = stock.shelves_by_resource.setdefault(resource, [])
                if key not in keys:
                    keys.append(key)
        for resource, count in resources.items():
            if count > stock.largest_by_resource.get(resource, 0):
                stock.largest_by_resource[resource] = count
        for key, gpus in members.items():
            shelf = stock.shelves.get(key)
            if shelf is None:
                shelf = stock.shelves[key] = Shelf(pools[key[0]], gpus[0].model, gpus[0].memory_mib)
            _shelve(stock, shelf, node, gpus, resources)
    return stock


def lonely_groups(node: Node) -> bool:
    """True when no two GPUs of the node share an IOMMU group."""
    groups = [g.iommu_group for g in node.gpus if g.iommu_group is not None]
    return len(set(groups)) == len(groups)


def objection_of(gpu: Gpu, node: Node, pool: Pool, usage: Usage) -> Objection | None:
    """The first rule that keeps this one GPU where it is, with its sentence."""
    return gpu_objection(gpu, node, pool) or use_objection(gpu, usage)


def _shelve(stock: Stock, shelf: Shelf, node: Node, gpus: list[Gpu], resources: dict[str, int]) -> None:
    """Put one node's GPUs of one shelf where they belong. The hot loop of planning: attributes are read once
    and no sentence is made here."""
    shelf.gpus += len(gpus)
    at = shelf.nodes[node.name] = NodeStock(node)
    usage, pool = stock.usage, shelf.pool
    if usage.unplaced:
        at.unplaced = sum(usage.unplaced[(node.name, r)] for r in resources)
    move = node.transition
    leaving = move.devices if move is not None else ()
    usable = node.ready and (not node.cordoned or node.cordoned_by_us)
    still = node_objection(node) is not None or not lonely_groups(node)
    whole = pool.granularity is Granularity.NODE
    bundles: dict[str, list[tuple[Gpu, bool, bool]]] = {}
    pods_by_gpu, vm_by_device = usage.pods_by_gpu, usage.vm_by_device
    for gpu in gpus:
        mode, phase = gpu.observed_mode, gpu.phase
        wanted = gpu.desired_mode or mode
        busy = bool(
            gpu.allocated_to
            or gpu.uuid in pods_by_gpu
            or (mode is Mode.PASSTHROUGH and vm_by_device and (node.name, gpu.pci_address) in vm_by_device)
            or (gpu.holders and use_objection(gpu, usage) is not None)
        )
        arriving = mode is not wanted or phase is DevicePhase.MOVING
        shelf.moving += arriving or gpu.pci_address in leaving
        if wanted is Mode.PASSTHROUGH:
            shelf.passthrough += 1
            drains = mode is Mode.SHARED
            shelf.vm_busy += busy and not drains
            if usable and (drains or not busy) and phase in (DevicePhase.READY, DevicePhase.MOVING):
                if mode is Mode.SHARED and gpu.uuid in pods_by_gpu:
                    shelf.draining += 1
                    at.draining += 1
                elif arriving or not gpu.advertised:
                    at.incoming += 1
                else:
                    at.free += 1
        elif wanted is Mode.SHARED:
            shelf.shared += 1
            shelf.shared_busy += busy
        kept = still or arriving or phase is not DevicePhase.READY
        if not kept and (
            gpu.reason or gpu.iommu_group is None or mode is None or pool.rebalance is RebalanceMode.OFF
        ):
            kept = gpu_objection(gpu, node, pool) is not None
        if whole or gpu.nvswitch_domain:
            bundles.setdefault("" if whole else gpu.nvswitch_domain, []).append((gpu, kept, busy))
        elif kept:
            stock.refused.append((gpu, node, pool, ""))
        elif not busy:
            _idle(at, (gpu,), pool, stock)
        elif mode is Mode.SHARED:
            at.busy_shared.append((gpu,))
        else:
            at.busy_passthrough.append(gpu)
    at.free = max(0, at.free - at.unplaced)
    for bundle in bundles.values():
        _sort_bundle(stock, pool, at, bundle)
    shelf.free += at.free + at.incoming


def _idle(at: NodeStock, gpus: tuple[Gpu, ...], pool: Pool, stock: Stock) -> None:
    held_until = max(g.mode_since for g in gpus) + pool.cooldown_seconds
    if gpus[0].observed_mode is Mode.SHARED:
        at.to_passthrough.append(Unit(gpus, held_until=held_until))
    elif at.unplaced:
        why = f"a VM is bound to {at.node.name} and its GPU is not yet known; it may be this one"
        stock.refused.extend((gpu, at.node, pool, why) for gpu in gpus)
    else:
        at.to_shared.append(Unit(gpus, held_until=held_until))


def _sort_bundle(stock: Stock, pool: Pool, at: NodeStock, bundle: list[tuple[Gpu, bool, bool]]) -> None:
    """GPUs that move together: all of them may, or none does."""
    gpus = tuple(gpu for gpu, _, _ in bundle)
    modes = {gpu.observed_mode for gpu in gpus}
    kept = [gpu for gpu, kept, _ in bundle if kept]
    busy = [gpu for gpu, _, busy in bundle if busy]
    if len(modes) == 1 and not kept:
        if not busy:
            return _idle(at, gpus, pool, stock)
        if modes == {Mode.SHARED}:
            return at.busy_shared.append(gpus)
    cause = (kept or busy or list(gpus))[0]
    objection = objection_of(cause, at.node, pool, stock.usage)
    partner = objection[1] if objection else "they are in different modes"
    for gpu in gpus:
        stock.refused.append((gpu, at.node, pool, f"it moves only with its neighbours, and {partner}"))
    return None
