"""Where to put VMs: the nodes of one shelf, sorted by how many GPUs they have free and could free.

Nodes with equal numbers are equal for a VM of any size, so a VM is matched against the classes (at most a few
hundred), not against the nodes (thousands). Within a class the cheapest node is taken, names breaking ties.
What eviction could free is worked out only once a VM cannot be served without it.
"""

import heapq
from dataclasses import dataclass, field

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
    """The nodes of one shelf, consumed as VMs are placed on them."""

    def __init__(self, shelf: GpuGroup) -> None:
        self._shelf = shelf
        self._stocks: dict[NodeName, NodeInventory] = {}
        self._evictable: dict[NodeName, list[Unit]] = {}
        self._priced = False
        self._classes: dict[_Class, list[tuple[float, NodeName]]] = {}
        for name, stock in shelf.nodes.items():
            if stock.free or stock.incoming or stock.to_passthrough:
                self._stocks[name] = stock
                self._enter(name)

    def allow_eviction(self, stock: Inventory) -> None:
        """Price the busy units; those that nobody may disturb stay out."""
        if self._priced:
            return
        self._priced = True
        for name, at in self._shelf.nodes.items():
            units = sorted(stock.evictable(self._shelf, at), key=unit_order)
            if units:
                self._stocks[name] = at
                self._evictable[name] = units
        for key, nodes in self._classes.items():
            self._classes[key] = [entry for entry in nodes if entry[1] not in self._evictable]
            heapq.heapify(self._classes[key])
        for name in self._evictable:
            self._enter(name)

    def _class_of(self, name: NodeName) -> _Class:
        stock = self._stocks[name]
        idle = [len(unit.gpus) for unit in stock.to_passthrough]
        busy = [len(unit.gpus) for unit in self._evictable.get(name, ())]
        return (
            stock.free + stock.incoming,
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
        stock = self._stocks[name]
        use_free = min(stock.free, gpus)
        use_incoming = min(stock.incoming, gpus - use_free)
        offer = Candidate(name, use_free, use_incoming)
        missing = gpus - use_free - use_incoming
        for unit in (*stock.to_passthrough, *self._evictable.get(name, ())):
            if missing <= 0:
                break
            offer.move.append(unit)
            missing -= unit.size
        return offer

    def take(self, offer: Candidate, gpus: int, moved: list[Unit]) -> None:
        """Give `gpus` GPUs of the offer's node to a VM; `moved` are the units that do move for it now."""
        stock = self._stocks[offer.node]
        heapq.heappop(self._classes[self._class_of(offer.node)])
        stock.free -= offer.use_free
        stock.incoming -= offer.use_incoming
        chosen = {id(unit) for unit in moved}
        stock.to_passthrough = [u for u in stock.to_passthrough if id(u) not in chosen]
        left = [u for u in self._evictable.get(offer.node, ()) if id(u) not in chosen]
        self._evictable[offer.node] = left
        surplus = offer.use_free + offer.use_incoming + sum(u.size for u in moved) - gpus
        self._shelf.free -= offer.use_free + offer.use_incoming - max(0, surplus)
        stock.incoming += max(0, surplus)
        self._enter(offer.node)
