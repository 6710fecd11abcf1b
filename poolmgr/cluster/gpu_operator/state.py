"""Neighbours of one node, from its Node object and the pods that belong to them."""

from collections.abc import Iterable

from poolmgr.domain.neighbours import NOBODY, Neighbours
from poolmgr.wire import DaemonSet, Node
from poolmgr.wire.gpu_operator import NeighbourPod, neighbours_of


def neighbours_on(node: Node | None, pods: Iterable[NeighbourPod], plugin: DaemonSet | None) -> Neighbours:
    """`plugin` is HAMi's, where it is installed as a DaemonSet."""
    if node is None:
        return NOBODY
    return neighbours_of(
        node.metadata.name,
        node.metadata.labels,
        pods,
        upgrades_held_by_us=bool(node.metadata.annotations.upgrades_held),
        lever=plugin.spec.template.spec.node_selector if plugin is not None else (),
    )
