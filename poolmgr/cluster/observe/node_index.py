"""Which pods bear on which node: sums of the ordinary ones, the few others by name."""

from collections.abc import Iterable, Iterator

from poolmgr.cluster.observe.nodes import Usage
from poolmgr.cluster.observe.pods import Placement, PluginPod, PodFacts


class NodeIndex:
    """Moves pods between nodes as they change."""

    def __init__(self) -> None:
        self._usage: dict[str, Usage] = {}
        self._placements: dict[str, dict[str, Placement]] = {}
        self._plugins: dict[str, dict[str, PluginPod]] = {}

    def move(self, key: str, old: PodFacts | None, new: PodFacts | None) -> set[str]:
        """Replace `old` by `new`; the names of the nodes that look different now."""
        touched = set()
        if old is not None:
            touched |= set(self._remove(key, old))
        if new is not None:
            touched |= set(self._add(key, new))
        return touched

    def usage(self, node: str) -> Usage:
        return self._usage.get(node) or Usage()

    def placements(self, node: str) -> Iterable[Placement]:
        return self._placements.get(node, {}).values()

    def plugin_pods(self, node: str) -> Iterable[PluginPod]:
        return self._plugins.get(node, {}).values()

    def _add(self, key: str, pod: PodFacts) -> Iterator[str]:
        if pod.node:
            usage = self._usage.setdefault(pod.node, Usage())
            usage.cpu_milli += pod.cpu_milli
            usage.memory_mib += pod.memory_mib
            if pod.plugin is not None:
                self._plugins.setdefault(pod.node, {})[key] = pod.plugin
            yield pod.node
        if pod.placement is not None:
            self._placements.setdefault(pod.placement.node, {})[key] = pod.placement
            yield pod.placement.node

    def _remove(self, key: str, pod: PodFacts) -> Iterator[str]:
        if pod.node:
            usage = self._usage[pod.node]
            usage.cpu_milli -= pod.cpu_milli
            usage.memory_mib -= pod.memory_mib
            self._plugins.get(pod.node, {}).pop(key, None)
            yield pod.node
        if pod.placement is not None:
            self._placements.get(pod.placement.node, {}).pop(key, None)
            yield pod.placement.node
