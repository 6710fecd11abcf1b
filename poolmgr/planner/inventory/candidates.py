"""Where to put VMs: the nodes of one group, sorted by how many GPUs they have free and could free.

Nodes of one kind (`node_filter`) with equal numbers are equal for a VM of any size, so a VM is matched against the
classes (at most a few hundred), not against the nodes (thousands). Within a class the cheapest node with enough CPU,
memory and the like is taken, names breaking ties.
What eviction could free is worked out only once a VM cannot be served without it.
"""

import heapq
from dataclasses import dataclass, field, replace

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.placement import ANYWHERE, NOTHING, Needs, Placement
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import NodeInventory, Unit, unit_order
from poolmgr.planner.inventory.node_filter import NodeFilter
from poolmgr.planner.inventory.node_resources import NodeResources

UNLIMITED = 1 << 40

_Class = tuple[int, int, int, int, int]
"""(kind of node, free or incoming, idle GPUs that could move, GPUs that eviction would free, size of a unit)."""
_Entry = tuple[float, NodeName]
"""(GPU-seconds lost by the first eviction, node)."""


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

    def __init__(self, group: GpuGroup, nodes: NodeFilter, resources: NodeResources) -> None:
        self.changed: dict[NodeName, NodeInventory] = {}
        """What is left of the nodes that VMs were placed on."""
        self.taken = 0
        """GPUs that were free or on their way, and are some VM's now."""
        self._ready = sum(node.free + node.incoming for node in group.nodes.values())
        self._group = group
        self._filter = nodes
        self._resources = resources
        self._too_small: dict[_Class, set[Needs]] = {}
        """What no node of a class has room for. It stays true while nodes only fill and leave."""
        self._nodes: dict[NodeName, NodeInventory] = {}
        self._evictable: dict[NodeName, list[Unit]] = {}
        self._priced = False
        self._classes: dict[_Class, list[_Entry]] = {}
        for name, node in group.nodes.items():
            if node.free or node.incoming or node.to_passthrough:
                self._nodes[name] = node
                self._classes.setdefault(self._class_of(name), []).append((0.0, name))
        for nodes_of_class in self._classes.values():
            heapq.heapify(nodes_of_class)

    @property
    def ready(self) -> int:
        """GPUs that are free or on their way, and nobody's yet."""
        return self._ready - self.taken

    def allow_eviction(self, inventory: Inventory) -> None:
        """Price the busy units; those that nobody may disturb stay out."""
        if self._priced:
            return
        self._priced = True
        for name, at in self._group.nodes.items():
            units = inventory.evictable(self._group, at)
            if units:
                self._nodes.setdefault(name, at)
                self._evictable[name] = sorted(units, key=unit_order)
        for key, nodes in self._classes.items():
            self._classes[key] = [entry for entry in nodes if entry[1] not in self._evictable]
        for name, units in self._evictable.items():
            lost = units[0].lost_gpu_seconds if units else 0.0
            self._classes.setdefault(self._class_of(name), []).append((lost, name))
        for nodes in self._classes.values():
            heapq.heapify(nodes)
        self._too_small.clear()

    def _class_of(self, name: NodeName) -> _Class:
        node = self._nodes[name]
        idle = busy = 0
        size = 1
        for unit in node.to_passthrough:  # nodes are many: no list is made and nothing called for each
            gpus = len(unit.gpus)
            idle += gpus
            size = gpus if gpus > size else size
        for unit in self._evictable.get(name, ()):
            gpus = len(unit.gpus)
            busy += gpus
            size = gpus if gpus > size else size
        return self._filter.kind_of(name), node.free + node.incoming, idle, busy, size

    def _enter(self, name: NodeName) -> None:
        cheapest = self._evictable.get(name, ())
        lost = cheapest[0].lost_gpu_seconds if cheapest else 0.0
        key = self._class_of(name)
        heapq.heappush(self._classes.setdefault(key, []), (lost, name))
        self._too_small.pop(key, None)

    def best(
        self,
        gpus: int,
        placement: Placement = ANYWHERE,
        needs: Needs = NOTHING,
        most_ready: int = UNLIMITED,
    ) -> Candidate | None:
        """The cheapest way to `gpus` GPUs on one node that admits the workload: fewest evictions, then fewest moves,
        then least work lost, then least room left over on the node (so that large holes stay for large VMs). At most
        `most_ready` of them are ones that are free or on their way."""
        best: tuple[tuple[int, int, float, int], NodeName] | None = None
        denials, needy = self._filter.denials(placement), bool(needs)
        for key, nodes in self._classes.items():
            kind, ready, idle, evictable, size = key
            free = min(ready, most_ready)
            if free + idle + evictable < gpus or not nodes or denials[kind]:
                continue
            moves = -((free - gpus) // size) * size if gpus > free else 0
            evictions = moves - idle if moves > idle else 0
            if best is not None and (evictions, moves) > best[0][:2]:
                continue
            first = self._first(key, needs) if needy else nodes[0]
            if first is None:
                continue
            lost = first[0] if evictions else 0.0
            rank = (evictions, moves, lost, ready + idle + evictable - gpus)
            if best is None or rank < best[0]:
                best = (rank, first[1])
        return self._candidate(best[1], gpus, most_ready) if best is not None else None

    def at(self, name: NodeName, gpus: int, most_ready: int = UNLIMITED) -> Candidate | None:
        """The way to `gpus` GPUs on this node; None where it cannot have so many."""
        if name not in self._nodes:
            return None
        _, ready, idle, evictable, _ = self._class_of(name)
        if min(ready, most_ready) + idle + evictable < gpus:
            return None
        return self._candidate(name, gpus, most_ready)

    def _candidate(self, name: NodeName, gpus: int, most_ready: int) -> Candidate:
        node = self._nodes[name]
        use_free = min(node.free, gpus, most_ready)
        use_incoming = min(node.incoming, gpus - use_free, most_ready - use_free)
        candidate = Candidate(name, use_free, use_incoming)
        missing = gpus - use_free - use_incoming
        for unit in (*node.to_passthrough, *self._evictable.get(name, ())):
            if missing <= 0:
                break
            candidate.move.append(unit)
            missing -= unit.size
        return candidate

    def _first(self, key: _Class, needs: Needs) -> _Entry | None:
        """The first node of a class that has room for `needs`."""
        nodes = self._classes[key]
        if not self._resources.lacks(nodes[0][1], needs):
            return nodes[0]
        too_small = self._too_small.setdefault(key, set())
        if needs in too_small:
            return None
        found = min((entry for entry in nodes if not self._resources.lacks(entry[1], needs)), default=None)
        if found is None:
            too_small.add(needs)
        return found

    def take(self, candidate: Candidate, gpus: int, moved: list[Unit]) -> None:
        """Give `gpus` GPUs of the candidate's node to a VM; `moved` are the units that do move for it now."""
        name = candidate.node
        node = self._nodes[name]
        nodes = self._classes[self._class_of(name)]
        if nodes[0][1] == name:
            heapq.heappop(nodes)
        else:
            nodes[:] = [entry for entry in nodes if entry[1] != name]
            heapq.heapify(nodes)
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
