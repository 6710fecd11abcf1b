"""Where to put VMs: the nodes of one group, sorted by how many GPUs they have free and could free.

Nodes with equal numbers are equal for a VM of any size, so a VM is matched against the classes (at most a few
hundred), not against the nodes (thousands). Within a class the cheapest node is taken, names breaking ties.
What eviction could free is worked out only once a VM cannot be served without it.
"""

import heapq
from dataclasses import dataclass, field, replace

from poolmgr.domain.identifiers import NodeName
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import NodeInventory, Unit, unit_order

_Class = tuple[int, int, int, int]
"""(free or incoming, idle GPUs that could move, GPUs that eviction would free, size of a unit)."""


@dataclass(slots=True)
class Candidate:
    """How one VM could be served on one node."""

    node: NodeName
    use_free: int
    """GPUs that need no move."""
    use_incoming: int
    move: list[Unit] = field(default_factory=list)


class CandidateIndex:
    """The nodes of one group, consumed as VMs are placed on them. The group itself stays as it is."""

    def __init__(self, group: GpuGroup) -> None:
        self.changed: dict[NodeName, NodeInventory] = {}
        """What is left of the nodes that VMs were placed on."""
        self.taken = 0
        """GPUs that were free or on their way, and are some VM's now."""
        self._group = group
        self._nodes: dict[NodeName, NodeInventory] = {}
        self._evictable: dict[NodeName, list[Unit]] = {}
        self._priced = False
        self._classes: dict[_Class, list[tuple[float, NodeName]]] = {}
        for name, node in group.nodes.items():
            if node.free or node.incoming or node.to_passthrough:
                self._nodes[name] = node
                self._enter(name)

    def allow_eviction(self, inventory: Inventory) -> None:
        """Price the busy units; those that nobody may disturb stay out."""
        if self._priced:
            return
        self._priced = True
        for name, at in self._group.nodes.items():
            units = sorted(inventory.evictable(self._group, at), key=unit_order)
            if units:
                self._nodes.setdefault(name, at)
                self._evictable[name] = units
        for key, nodes in self._classes.items():
            self._classes[key] = [entry for entry in nodes if entry[1] not in self._evictable]
            heapq.heapify(self._classes[key])
        for name in self._evictable:
            self._enter(name)

    def _class_of(self, name: NodeName) -> _Class:
        node = self._nodes[name]
        idle = [len(unit.gpus) for unit in node.to_passthrough]
        busy = [len(unit.gpus) for unit in self._evictable.get(name, ())]
        return (
            node.free + node.incoming,
            sum(idle),
            sum(busy),
            max(max(idle, default=1), max(busy, default=1)),
        )

    def _enter(self, name: NodeName) -> None:
        cheapest = self._evictable.get(name, ())
        lost = cheapest[0].lost_gpu_seconds if cheapest else 0.0
        heapq.heappush(self._classes.setdefault(self._class_of(name), []), (lost, name))

    def best(self, gpus: int) -> Candidate | None:
        """The cheapest way to `gpus` GPUs on one node: fewest evictions, then fewest moves, then least work
        lost, then least room left over on the node (so that large holes stay for large VMs)."""
        best: tuple[tuple[int, int, float, int], _Class] | None = None
        for key, nodes in self._classes.items():
            free, idle, evictable, size = key
            if not nodes or free + idle + evictable < gpus:
                continue
            moves = -(-max(0, gpus - free) // size) * size
            evictions = max(0, moves - idle)
            lost = nodes[0][0] if evictions else 0.0
            rank = (evictions, moves, lost, free + idle + evictable - gpus)
            if best is None or rank < best[0]:
                best = (rank, key)
        if best is None:
            return None
        name = self._classes[best[1]][0][1]
        node = self._nodes[name]
        use_free = min(node.free, gpus)
        use_incoming = min(node.incoming, gpus - use_free)
        candidate = Candidate(name, use_free, use_incoming)
        missing = gpus - use_free - use_incoming
        for unit in (*node.to_passthrough, *self._evictable.get(name, ())):
            if missing <= 0:
                break
            candidate.move.append(unit)
            missing -= unit.size
        return candidate

    def take(self, candidate: Candidate, gpus: int, moved: list[Unit]) -> None:
        """Give `gpus` GPUs of the candidate's node to a VM; `moved` are the units that do move for it now."""
        name = candidate.node
        node = self._nodes[name]
        heapq.heappop(self._classes[self._class_of(name)])
        chosen = {id(unit) for unit in moved}
        ready = candidate.use_free + candidate.use_incoming
        surplus = max(0, ready + sum(unit.size for unit in moved) - gpus)
        self._nodes[name] = self.changed[name] = replace(
            node,
            free=node.free - candidate.use_free,
            incoming=node.incoming - candidate.use_incoming + surplus,
            to_passthrough=[unit for unit in node.to_passthrough if id(unit) not in chosen],
        )
        self._evictable[name] = [u for u in self._evictable.get(name, ()) if id(u) not in chosen]
        self.taken += ready - surplus
        self._enter(name)
