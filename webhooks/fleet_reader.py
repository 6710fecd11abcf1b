"""Views of the fleet from the cluster's objects, made at little cost when few of them have changed."""

from collections.abc import Iterable

from poolmgr import wire
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.membership import by_age
from poolmgr.wire.gpu_pools import pool_from
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.nodes import extended_resources, node_of
from webhooks.fleet_view import FleetView, SeenNode, view_of

Origin = tuple[wire.GpuNode, wire.Node | None, tuple[Pool, ...]]


class FleetReader:
    """Makes views of the cluster's objects. What it remembers of a node saves time and alters no view: it is used again
    only for the very same objects under equal pools."""

    def __init__(self, slice_resource: str = HamiConfig().count) -> None:
        self._slice_resource = slice_resource
        self._known: dict[str, tuple[Origin, SeenNode]] = {}

    def read(
        self,
        gpu_nodes: Iterable[wire.GpuNode],
        gpu_pools: Iterable[wire.GpuPool],
        nodes: Iterable[wire.Node],
    ) -> FleetView:
        """The view of these objects."""
        pools = by_age(map(pool_from, gpu_pools))
        by_name = {node.metadata.name: node for node in nodes}
        before, self._known = self._known, {}
        for found in gpu_nodes:
            name = found.metadata.name
            origin = (found, by_name.get(name), pools)
            known = before.get(name)
            if known is None or not _same(known[0], origin):
                known = origin, SeenNode.of(node_of(*origin))
            self._known[name] = known
        offers = {NodeName(name): extended_resources(node) for name, node in by_name.items()}
        return view_of([seen for _, seen in self._known.values()], pools, offers, self._slice_resource)


def _same(one: Origin, other: Origin) -> bool:
    return one[0] is other[0] and one[1] is other[1] and one[2] == other[2]
