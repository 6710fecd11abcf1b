"""What nodes have left beside GPUs, less what the plan has given away."""

from collections.abc import Mapping

from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.placement import FreeResources, Needs


class NodeResources:
    """CPU, memory, other resources and ports by node. A node's own is worked out when it is first asked for."""

    def __init__(self, nodes: Mapping[NodeName, Node], below: "NodeResources | None" = None) -> None:
        """`below` is what was there before: it is read and stays as it is."""
        self._nodes = nodes
        self._below = below
        self._own: dict[NodeName, FreeResources] = {}
        self.changed: dict[NodeName, FreeResources] = {}

    def free(self, name: NodeName) -> FreeResources:
        found = self.changed.get(name)
        if found is not None:
            return found
        if self._below is not None:
            return self._below.free(name)
        own = self._own.get(name)
        if own is None:
            own = self._own[name] = self._nodes[name].free_resources
        return own

    def compute(self, name: NodeName) -> tuple[int, int]:
        """CPU (thousandths) and memory (MiB) that are left there."""
        found = self.changed.get(name)
        if found is not None:
            return found.cpu_milli, found.memory_mib
        if self._below is not None:
            return self._below.compute(name)
        node = self._nodes[name]
        return node.cpu_milli_free, node.memory_mib_free

    def lacks(self, name: NodeName, needs: Needs) -> str:
        """What is too little there, as a part of a sentence; empty when there is enough."""
        return self.free(name).lacks(needs)

    def take(self, name: NodeName, needs: Needs) -> None:
        if needs:
            self.changed[name] = self.free(name).without(needs)
