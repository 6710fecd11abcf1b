"""The supply as a planner sees it: per pool and model, which GPUs are free, on their way, and movable.

One pass over the snapshot; `shelving` sorts each node's GPUs (`node_memory` knows those that are as they were), here
the nodes are summed up.
"""

from dataclasses import dataclass, field

from poolmgr.domain.fleet import Gpu, Pool
from poolmgr.domain.identifiers import NodeName, WorkloadUid
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.cache import CachedNode, InventoryCache
from poolmgr.planner.inventory.eligibility import lost_work, use_denial
from poolmgr.planner.inventory.node import GroupKey, IneligibleGpu, NodeInventory, Part, Unit
from poolmgr.planner.inventory.usage import Usage


@dataclass(slots=True)
class GpuGroup:
    """One model of one pool. Counts are GPUs."""

    pool: Pool
    model: str
    memory_mib: int
    """Of one card."""
    nodes: dict[NodeName, NodeInventory] = field(default_factory=dict)
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
class Inventory:
    usage: Usage
    nodes: list[CachedNode]
    """All of the snapshot, in its order."""
    shelves: dict[GroupKey, GpuGroup]
    refused: list[IneligibleGpu]
    groups_by_resource: dict[str, list[GroupKey]]
    largest_by_resource: dict[str, int]
    """Most GPUs of the resource on any one node."""
    taken_at: float

    def evictable(self, shelf: GpuGroup, at: NodeInventory) -> list[Unit]:
        """A node's units in use that eviction would free; only those for which the pool and all pods allow it."""
        if at.told.evictable is None:
            at.told.evictable = [gpus for gpus in at.busy_shared if self._priced(shelf, gpus) is not None]
        return [unit for gpus in at.told.evictable if (unit := self._priced(shelf, gpus)) is not None]

    def _priced(self, shelf: GpuGroup, gpus: tuple[Gpu, ...]) -> Unit | None:
        lost = 0.0
        victims: dict[WorkloadUid, None] = {}
        for gpu in gpus:
            if gpu.uuid not in self.usage.pods_by_gpu and use_denial(gpu, self.usage) is None:
                continue
            price = lost_work(gpu, shelf.pool, self.usage, self.taken_at)
            if price is None:
                return None
            lost += price[0]
            victims.update((pod.uid, None) for pod in price[1])
        return Unit(gpus, lost, tuple(victims))


def build_inventory(
    snapshot: ClusterSnapshot, usage: Usage, memory: InventoryCache | None = None
) -> Inventory:
    """Sort every GPU of the snapshot into the stock. O(GPUs + slices), much less where `memory` knows nodes."""
    pools = {str(pool.name): pool for pool in snapshot.pools}
    nodes = (InventoryCache() if memory is None else memory).shelve(snapshot, usage)
    stock = Inventory(usage, nodes, {}, [], {}, {}, snapshot.taken_at)
    for shelved in stock.nodes:
        stock.refused.extend(shelved.unpooled)
        for resource, (count, keys) in shelved.resources.items():
            if count > stock.largest_by_resource.get(resource, 0):
                stock.largest_by_resource[resource] = count
            there = stock.groups_by_resource.setdefault(resource, [])
            for key in keys:
                if key not in there:
                    there.append(key)
        for part in shelved.parts:
            _lay_on_shelf(stock, pools, part)
    return stock


def _lay_on_shelf(stock: Inventory, pools: dict[str, Pool], part: Part) -> None:
    shelf = stock.shelves.get(part.key)
    if shelf is None:
        first = part.gpus[0]
        shelf = stock.shelves[part.key] = GpuGroup(pools[part.key[0]], first.model, first.memory_mib)
    at = part.at
    shelf.nodes[at.node.name] = NodeInventory(
        at.node,
        at.free,
        at.incoming,
        at.draining,
        at.unplaced,
        at.to_passthrough,
        at.to_shared,
        at.busy_passthrough,
        at.busy_shared,
        at.told,
    )
    shelf.gpus += len(part.gpus)
    shelf.passthrough += part.passthrough
    shelf.shared += part.shared
    shelf.moving += part.moving
    shelf.vm_busy += part.vm_busy
    shelf.shared_busy += part.shared_busy
    shelf.draining += part.draining
    shelf.free += at.free + at.incoming
    stock.refused.extend(part.refused)
