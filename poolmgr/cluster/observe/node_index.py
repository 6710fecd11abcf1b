"""Which pods bear on which node: sums of the ordinary ones, the few others by name."""

from collections.abc import Iterable
from typing import TypeVar

from poolmgr.cluster.observe.pods import HamiPlacement, PluginPod, PodFacts
from poolmgr.wire.gpu_operator import NeighbourPod
from poolmgr.wire.nodes import Requested

V = TypeVar("V")


class NodeIndex:
    """Moves pods between nodes as they change."""

    def __init__(self) -> None:
        self._usage: dict[str, Requested] = {}
        self._placements: dict[str, dict[str, HamiPlacement]] = {}
        self._plugins: dict[str, dict[str, PluginPod]] = {}
        self._neighbours: dict[str, dict[str, NeighbourPod]] = {}

    def move(self, key: str, old: PodFacts | None, new: PodFacts | None, touched: set[str]) -> None:
        """Replace `old` by `new`; adds the names of the nodes that look different now to `touched`."""
        if old is not None:
            self._count(old, -1)
            self._name(key, old, touched, present=False)
        if new is not None:
            self._count(new, 1)
            self._name(key, new, touched, present=True)

    def usage(self, node: str) -> Requested:
        return self._usage.get(node) or Requested()

    def placements(self, node: str) -> Iterable[HamiPlacement]:
        return self._placements.get(node, {}).values()

    def plugin_pods(self, node: str) -> Iterable[PluginPod]:
        return self._plugins.get(node, {}).values()

    def neighbours(self, node: str) -> Iterable[NeighbourPod]:
        return self._neighbours.get(node, {}).values()

    def _count(self, pod: PodFacts, sign: int) -> None:
        if pod.node:
            usage = self._usage.get(pod.node)
            if usage is None:
                usage = self._usage[pod.node] = Requested()
            usage.pods += sign
            usage.cpu_milli += sign * pod.cpu_milli
            usage.memory_mib += sign * pod.memory_mib
            for name, amount in pod.amounts:
                usage.amounts[name] += sign * amount
            for port in pod.ports:
                usage.ports[port] += sign

    def _name(self, key: str, pod: PodFacts, touched: set[str], *, present: bool) -> None:
        if pod.node:
            touched.add(pod.node)
            if pod.plugin is not None:
                _set(self._plugins, pod.node, key, pod.plugin if present else None)
            if pod.neighbour is not None:
                _set(self._neighbours, pod.node, key, pod.neighbour if present else None)
        if pod.placement is not None:
            touched.add(pod.placement.node)
            _set(self._placements, pod.placement.node, key, pod.placement if present else None)


def _set(index: dict[str, dict[str, V]], node: str, key: str, value: V | None) -> None:
    if value is not None:
        index.setdefault(node, {})[key] = value
    elif node in index:
        index[node].pop(key, None)
        if not index[node]:
            del index[node]
