"""GPUs that no new pod may get, of a whole fleet."""

from collections.abc import Iterable

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire import GpuNode
from poolmgr.wire.node_specs import closed_to_pods


class ClosedGpus:
    """Keeps what it made of each GPUNode: to read a thousand takes a tenth of a second, in which nobody else is answered,
    and few change between two looks."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[GpuNode, frozenset[GpuUuid]]] = {}

    def among(self, nodes: Iterable[GpuNode]) -> frozenset[GpuUuid]:
        """See `node_specs.closed_to_pods`. O(nodes), and O(GPUs) of those that are other values than at the last call."""
        before, self._known = self._known, {}
        for node in nodes:
            name = node.metadata.name
            found = before.get(name)
            self._known[name] = (
                found if found is not None and found[0] is node else (node, closed_to_pods(node))
            )
        return frozenset[GpuUuid]().union(*(uuids for _, uuids in self._known.values()))
