"""Where to put VMs: the nodes of one shelf, sorted by how many GPUs they have free and could free.

Nodes with equal numbers are equal for a VM of any size, so a VM is matched against the classes (at most a few
hundred), not against the nodes (thousands). Within a class the cheapest node is taken, names breaking ties.
"""

import heapq
from dataclasses import dataclass, field

from poolmgr.domain.identifiers import NodeName
from poolmgr.planner.stock import NodeStock, Shelf, Unit

_Class = tuple[int, int, int, int]
"""(free or incoming, idle GPUs that could move, GPUs that eviction would free, size of a unit)."""


@dataclass(slots=True)
class Offer:
    """How one VM could be served on one node."""

    node: NodeName
    use_free: int
    """GPUs that need no move."""
    use_incoming: int
    move: list[Unit] = field(default_factory=list)

    @property
    def moved_gpus(self) -> int:
        return sum(unit.size for unit in self.move)


class Board:
    """The nodes of one shelf, consumed as VMs are placed on them."""

    def __init__(self, shelf: Shelf) -> None:
        self._stocks: dict[NodeName, NodeStock] = {}
        self._classes: dict[_Class, list[tuple[float, NodeName]]] = {}
        for name, stock in shelf.nodes.items():
            if stock.free or stock.incoming or stock.to_passthrough or stock.by_eviction:
                stock.to_passthrough.sort(key=_unit_order)
                stock.by_eviction.sort(key=_unit_order)
                self._stocks[name] = stock
                self._enter(name)

    def _class_of(self, stock: NodeStock) -> _Class:
        idle = sum(unit.size for unit in stock.to_passthrough)
        evictable = sum(unit.size for unit in stock.by_eviction)
        size = max((u.size for u in (*stock.to_passthrough, *stock.by_eviction)), default=1)
        return (stock.free + stock.incoming, idle, evictable, size)

    def _enter(self, name: NodeName) -> None:
        stock = self._stocks[name]
        lost = sum(unit.lost_gpu_seconds for unit in stock.by_eviction)
        heapq.heappush(self._classes.setdefault(self._class_of(stock), []), (lost, name))

    def best(self, gpus: int, *, evict: bool) -> Offer | None:
        """The cheapest way to `gpus` GPUs on one node: fewest evictions, then fewest moves, then least
        room left over on the node (so that large holes stay for large VMs). None if there is none."""
        best: tuple[tuple[int, int, int], _Class] | None = None
        for key, nodes in self._classes.items():
            free, idle, evictable, size = key
            if not nodes or free + idle + (evictable if evict else 0) < gpus:
                continue
            moves = -(-max(0, gpus - free) // size) * size
            evictions = max(0, moves - idle)
            rank = (evictions, moves, free + idle + evictable - gpus)
            if best is None or rank < best[0]:
                best = (rank, key)
        if best is None:
            return None
        name = self._classes[best[1]][0][1]
        stock = self._stocks[name]
        use_free = min(stock.free, gpus)
        use_incoming = min(stock.incoming, gpus - use_free)
        offer = Offer(name, use_free, use_incoming)
        missing = gpus - use_free - use_incoming
        for unit in (*stock.to_passthrough, *(stock.by_eviction if evict else ())):
            if missing <= 0:
                break
            offer.move.append(unit)
            missing -= unit.size
        return offer

    def take(self, offer: Offer, gpus: int, moved: list[Unit]) -> None:
        """Give `gpus` GPUs of the offer's node to a VM; `moved` are the units that do move for it now."""
        stock = self._stocks[offer.node]
        heapq.heappop(self._classes[self._class_of(stock)])
        stock.free -= offer.use_free
        stock.incoming -= offer.use_incoming
        chosen = {id(unit) for unit in moved}
        stock.to_passthrough = [u for u in stock.to_passthrough if id(u) not in chosen]
        stock.by_eviction = [u for u in stock.by_eviction if id(u) not in chosen]
        surplus = offer.use_free + offer.use_incoming + sum(u.size for u in moved) - gpus
        stock.incoming += max(0, surplus)
        self._enter(offer.node)


def _unit_order(unit: Unit) -> tuple[float, float, str]:
    """Least work lost, then longest in its mode, then by address."""
    return (unit.lost_gpu_seconds, unit.held_until, unit.gpus[0].pci_address)
