"""The inventory of a snapshot: per pool and model, which GPUs are free, on their way, and movable.

One pass over the snapshot; `node` sorts each node's GPUs (`cache` knows those that are as they were), here the nodes are
summed up.
"""

from dataclasses import dataclass, field

from poolmgr.domain.fleet import Gpu, Pool
from poolmgr.domain.identifiers import NodeName, WorkloadUid
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.cache import CachedNode, InventoryCache
from poolmgr.planner.inventory.eligibility import lost_work
from poolmgr.planner.inventory.node import GroupKey, IneligibleGpu, NodeInventory, NodePart, Unit
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
    """Wanted in passthrough, moving ones included, without those that are out of use or may be on either side."""
    shared: int = 0
    unsure: int = 0
    """They may be on either side."""
    moving: int = 0
    vm_busy: int = 0
    shared_busy: int = 0
    draining: int = 0
    """On their way to passthrough, but not before the pods on them have ended."""
    free: int = 0
    """Free in passthrough or on the way there, nobody's yet."""


@dataclass(slots=True)
class Inventory:
    """Every GPU in exactly one place. Stages read it; `PlanState.apply` alone takes from it."""

    usage: Usage
    nodes: list[CachedNode]
    """All of the snapshot, in its order."""
    groups: dict[GroupKey, GpuGroup]
    ineligible: list[IneligibleGpu]
    groups_by_resource: dict[str, list[GroupKey]]
    largest_by_resource: dict[str, int]
    """Most GPUs of the resource on any one node."""
    taken_at: float

    def evictable(self, group: GpuGroup, at: NodeInventory) -> list[Unit]:
        """A node's units in use that eviction would free; only those for which the pool and all pods allow it."""
        if at.explanations.evictable is None:
            at.explanations.evictable = [
                gpus for gpus in at.busy_shared if self._priced(group, gpus) is not None
            ]
        return [unit for gpus in at.explanations.evictable if (unit := self._priced(group, gpus)) is not None]

    def _priced(self, group: GpuGroup, gpus: tuple[Gpu, ...]) -> Unit | None:
        lost = 0.0
        victims: dict[WorkloadUid, None] = {}
        for gpu in gpus:
            if not self.usage.in_use(gpu):
                continue
            price = lost_work(gpu, group.pool, self.usage, self.taken_at)
            if price is None:
                return None
            lost += price[0]
            victims.update((pod.uid, None) for pod in price[1])
        return Unit(gpus, lost, tuple(victims))


def build_inventory(
    snapshot: ClusterSnapshot, usage: Usage, cache: InventoryCache | None = None
) -> Inventory:
    """Sort every GPU of the snapshot. O(GPUs + slices), much less where `cache` knows nodes."""
    pools = {str(pool.name): pool for pool in snapshot.pools}
    nodes = (InventoryCache() if cache is None else cache).sort(snapshot, usage)
    inventory = Inventory(usage, nodes, {}, [], {}, {}, snapshot.taken_at)
    for node in nodes:
        if node.unpooled:
            inventory.ineligible.extend(node.unpooled)
        for resource, (count, keys) in node.resources.items():
            if count > inventory.largest_by_resource.get(resource, 0):
                inventory.largest_by_resource[resource] = count
            there = inventory.groups_by_resource.setdefault(resource, [])
            for key in keys:
                if key not in there:
                    there.append(key)
        for part in node.parts:
            _add_to_group(inventory, pools, part)
    return inventory


def _add_to_group(inventory: Inventory, pools: dict[str, Pool], part: NodePart) -> None:
    group = inventory.groups.get(part.key)
    if group is None:
        first = part.gpus[0]
        group = inventory.groups[part.key] = GpuGroup(pools[part.key[0]], first.model, first.memory_mib)
    at = part.at
    group.nodes[at.node.name] = at
    group.gpus += len(part.gpus)
    group.passthrough += part.passthrough
    group.shared += part.shared
    group.unsure += part.unsure
    group.moving += part.moving
    group.vm_busy += part.vm_busy
    group.shared_busy += part.shared_busy
    group.draining += part.draining
    group.free += at.free + at.incoming
    if part.ineligible:
        inventory.ineligible.extend(part.ineligible)
