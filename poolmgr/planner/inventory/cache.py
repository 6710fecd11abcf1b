"""A node's GPUs sorted, and what follows from them: kept from decision to decision while nothing on the node changes.

It saves time and alters no answer. An entry is used only for the very same `Node` value, with equal pods and VMs on
its GPUs, under equal pools, and until the next pause of the node or one of its GPUs runs out; where only other pods are
on the same GPUs, the sorting stays and what follows from the pods goes. At 5,000 nodes most are as they were ten seconds
ago.
"""

from dataclasses import dataclass, field, replace

from poolmgr.domain.backoff import steady_until
from poolmgr.domain.fleet import Gpu, Node, Pool
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.occupancy import Names, Tenants
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import held_by_others
from poolmgr.planner.inventory.node import ExplanationCache, IneligibleGpu, NodePart, Resources, sort_node
from poolmgr.planner.inventory.usage import Usage

SharedCapacity = tuple[Gpu, int, float, float, int, bool, bool, bool]
"""A shared GPU: its memory as HAMi counts it (MiB), memory left (MiB), compute left (percent), slots left; whether it is empty, whether HAMi can use
it now, and whether it is lent to best-effort pods."""


def _sorted_like(node: Node, one: Tenants, other: Tenants) -> bool:
    """Sorting asks only which GPUs are in use, and which of them by more than their pods."""
    return (
        (one.vms or {}).keys() == (other.vms or {}).keys()
        and [bool(pods) for pods in one.pods] == [bool(pods) for pods in other.pods]
        and all(
            held_by_others(gpu, before) == held_by_others(gpu, now)
            for gpu, before, now in zip(node.gpus, one.pods, other.pods, strict=True)
            if gpu.holders
        )
    )


@dataclass(slots=True)
class CachedNode:
    """One node's parts of the groups, and what they were made from."""

    node: Node
    names: Names
    tenants: Tenants
    parts: tuple[NodePart, ...]
    unpooled: tuple[IneligibleGpu, ...]
    resources: Resources
    sorted_at: float
    holds_until: float
    """When somebody who rests at `sorted_at` may move again, Unix seconds; infinite where nobody does."""
    capacity: list[SharedCapacity] | None = field(default=None, compare=False)
    """Its shared GPUs that can take more pods, once `shared_fit` has asked."""


class InventoryCache:
    """The nodes of the last decision."""

    def __init__(self) -> None:
        self._pools: tuple[Pool, ...] = ()
        self._known: dict[NodeName, CachedNode] = {}

    def __len__(self) -> int:
        return len(self._known)

    def sort(self, snapshot: ClusterSnapshot, usage: Usage) -> list[CachedNode]:
        """All nodes of the snapshot in its order. O(GPUs + slices), much less where nodes are known."""
        if snapshot.pools != self._pools or len(self._known) > 2 * len(snapshot.nodes):
            self._pools, self._known = snapshot.pools, {}
        pools = {str(pool.name): pool for pool in snapshot.pools}
        known, entries, now, unplaced = self._known, [], snapshot.taken_at, usage.unplaced
        for node in snapshot.nodes:
            name = node.name
            found = known.get(name)
            if found is None or found.node is not node or name in unplaced or _rests_differently(found, now):
                names = Names.of(node)
                found = _sorted(node, names, names.tenants(usage), pools, usage, now)
                if name not in unplaced:
                    known[name] = found
            elif (tenants := found.names.tenants(usage)) != found.tenants:
                found = known[name] = _with_tenants(found, tenants, pools, usage, now)
            entries.append(found)
        return entries


def _rests_differently(entry: CachedNode, now: float) -> bool:
    """The clock may have gone back, too."""
    rests = entry.node.backoffs or entry.node.disturbances
    return bool(rests) and not entry.sorted_at <= now < entry.holds_until


def _sorted(
    node: Node, names: Names, tenants: Tenants, pools: dict[str, Pool], usage: Usage, now: float
) -> CachedNode:
    until = steady_until(node.backoffs, node.disturbances, now)
    return CachedNode(node, names, tenants, *sort_node(node, pools, usage, now), now, until)


def _with_tenants(
    before: CachedNode, tenants: Tenants, pools: dict[str, Pool], usage: Usage, now: float
) -> CachedNode:
    """The same node with others on it."""
    if not _sorted_like(before.node, tenants, before.tenants):
        return _sorted(before.node, before.names, tenants, pools, usage, now)
    parts = tuple(
        replace(part, at=replace(part.at, explanations=ExplanationCache())) for part in before.parts
    )
    return replace(before, tenants=tenants, parts=parts, capacity=None)
