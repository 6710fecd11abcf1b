"""HAMi's levers on one node, each as one compare-and-swap on the Node object.

What to change is decided in `node_patches`; here it is read, written, and read again where someone else wrote
in between. Repeating any of these is harmless.
"""

from collections.abc import Callable

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType, backoff
from poolmgr.cluster.fencing import Leadership, refuse_older, require_epoch
from poolmgr.cluster.hami import node_patches
from poolmgr.cluster.hami.version import Minor
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import GpuUuid, NodeName, PlanId
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.annotations import EPOCH

ATTEMPTS = 5
"""Nodes are written by their kubelet, by HAMi and by others; five tries outlast any but a livelock."""


class KubernetesSharing:
    """Implements `controller.interfaces.SharingActuator`.

    `version` and `plugin` tell what of HAMi was found in the cluster; `plan_of` names the plan that moves GPUs
    of a node now, for the annotation that marks a cordon as ours.
    """

    def __init__(
        self,
        client: Client,
        leadership: Leadership,
        *,
        version: Callable[[NodeName], Minor | None],
        plugin: Callable[[], wire.DaemonSet | None],
        plan_of: Callable[[NodeName], str],
    ) -> None:
        self._client = client
        self._leadership = leadership
        self._version = version
        self._plugin = plugin
        self._plan_of = plan_of

    async def ensure_gpus_fenced(self, node: NodeName, uuids: frozenset[GpuUuid]) -> None:
        """See `SharingActuator`. Changes nothing where no HAMi with a device cordon was found."""
        version = self._version(node)
        if version is not None:
            await self._ensure(node, lambda found: node_patches.fence_patch(found, uuids, version))

    async def ensure_cordoned(self, node: NodeName, cordoned: bool) -> None:
        """See `SharingActuator`."""
        plan = self._plan_of(node) or "unknown"
        await self._ensure(node, lambda found: node_patches.cordon_patch(found, cordoned, plan))

    async def ensure_plugin(self, node: NodeName, wanted: bool) -> None:
        """See `SharingActuator`. Raises Rejected where HAMi's plugin cannot be stopped on one node."""
        await self._ensure(node, lambda found: node_patches.plugin_patch(found, wanted, self._plugin()))

    async def ensure_unregistered(self, node: NodeName) -> None:
        """See `SharingActuator`."""
        await self._ensure(node, node_patches.unregister_patch)

    async def ensure_scheduler_asked(self, node: NodeName, plan: PlanId, now: float) -> None:
        """See `SharingActuator`. Changes nothing where no HAMi was found."""
        version = self._version(node)
        if version is not None:
            await self._ensure(node, lambda found: node_patches.ask_patch(found, plan, now, version))

    async def ensure_best_effort_only(self, node: NodeName, on: bool) -> None:
        """See `SharingActuator`."""
        await self._ensure(node, lambda found: node_patches.best_effort_only_patch(found, on))

    async def _ensure(
        self, name: NodeName, patch_for: Callable[[wire.Node], node_patches.Patch | None]
    ) -> None:
        what, path = f"Node {name}", kinds.NODES.path(name)
        for attempt in range(1, ATTEMPTS + 1):
            node = await self._client.read(path, wire.Node)
            patch = patch_for(node)
            if patch is None:
                return
            epoch = require_epoch(self._leadership, what)
            refuse_older(node.metadata.annotations.epoch, epoch, what)
            metadata = patch.setdefault("metadata", {})
            metadata["resourceVersion"] = node.metadata.resource_version
            metadata.setdefault("annotations", {})[EPOCH] = str(epoch)
            try:
                await self._client.write(
                    "PATCH", path, patch, wire.Node, content_type=ContentType.MERGE_PATCH
                )
                return
            except Stale:
                if attempt == ATTEMPTS:
                    raise
            await self._client.clock.sleep(backoff(self._client.rng, attempt))
        raise Stale(Reason.STALE_GENERATION, f"{what} is written by others all the time; try again.")
