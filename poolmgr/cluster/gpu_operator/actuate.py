"""Implements `controller.interfaces.ServiceActuator` on the Node object. Repeating any of these is harmless."""

from poolmgr.cluster.gpu_operator import node_patches
from poolmgr.cluster.node_writer import NodeWriter
from poolmgr.domain.identifiers import NodeName


class KubernetesServices:
    def __init__(self, nodes: NodeWriter) -> None:
        self._nodes = nodes

    async def ensure_paused(self, node: NodeName, labels: frozenset[str]) -> None:
        """See `ServiceActuator`."""
        await self._nodes.ensure(node, lambda found: node_patches.pause_patch(found, labels))

    async def ensure_resumed(self, node: NodeName, labels: frozenset[str]) -> None:
        """See `ServiceActuator`."""
        await self._nodes.ensure(node, lambda found: node_patches.resume_patch(found, labels))

    async def ensure_upgrades_held(self, node: NodeName, held: bool) -> None:
        """See `ServiceActuator`."""
        await self._nodes.ensure(node, lambda found: node_patches.upgrades_patch(found, held))
