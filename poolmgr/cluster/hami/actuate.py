"""HAMi's levers on one node, each as one change of the Node object. Repeating any of these is harmless."""

from collections.abc import Callable

from poolmgr import wire
from poolmgr.cluster.hami import node_patches
from poolmgr.cluster.hami.version import Minor
from poolmgr.cluster.node_writer import NodeWriter
from poolmgr.domain.identifiers import GpuUuid, NodeName, PlanId


class KubernetesSharing:
    """Implements `controller.interfaces.SharingActuator`.

    `version` and `plugin` tell what of HAMi was found in the cluster; `plan_of` names the plan that moves GPUs
    of a node now, for the annotation that marks a cordon as ours.
    """

    def __init__(
        self,
        nodes: NodeWriter,
        *,
        version: Callable[[NodeName], Minor | None],
        plugin: Callable[[], wire.DaemonSet | None],
        plan_of: Callable[[NodeName], str],
    ) -> None:
        self._nodes = nodes
        self._version = version
        self._plugin = plugin
        self._plan_of = plan_of

    async def ensure_gpus_fenced(self, node: NodeName, uuids: frozenset[GpuUuid]) -> None:
        """See `SharingActuator`. Changes nothing where no HAMi with a device cordon was found."""
        version = self._version(node)
        if version is not None:
            await self._nodes.ensure(node, lambda found: node_patches.fence_patch(found, uuids, version))

    async def ensure_cordoned(self, node: NodeName, cordoned: bool) -> None:
        """See `SharingActuator`."""
        plan = self._plan_of(node) or "unknown"
        await self._nodes.ensure(node, lambda found: node_patches.cordon_patch(found, cordoned, plan))

    async def ensure_plugin(self, node: NodeName, wanted: bool) -> None:
        """See `SharingActuator`. Raises Rejected where HAMi's plugin cannot be stopped on one node."""
        await self._nodes.ensure(node, lambda found: node_patches.plugin_patch(found, wanted, self._plugin()))

    async def ensure_unregistered(self, node: NodeName) -> None:
        """See `SharingActuator`."""
        await self._nodes.ensure(node, node_patches.unregister_patch)

    async def ensure_scheduler_asked(self, node: NodeName, plan: PlanId, now: float) -> None:
        """See `SharingActuator`. Changes nothing where no HAMi was found."""
        version = self._version(node)
        if version is not None:
            await self._nodes.ensure(node, lambda found: node_patches.ask_patch(found, plan, now, version))

    async def ensure_best_effort_only(self, node: NodeName, on: bool) -> None:
        """See `SharingActuator`."""
        await self._nodes.ensure(node, lambda found: node_patches.best_effort_only_patch(found, on))
