"""Writes what the manager wants of a node into `GPUNode.spec`, by compare-and-swap."""

from collections.abc import Callable

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType
from poolmgr.cluster.fencing import Leadership, refuse_older, require_epoch
from poolmgr.domain.directives import Directives
from poolmgr.domain.errors import Rejected, Stale
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.annotations import AGENT_LAST_SEEN, EPOCH, RETRY
from poolmgr.wire.directives import annotations_of
from poolmgr.wire.instants import to_rfc3339
from poolmgr.wire.node_specs import spec_of

NEVER_SEEN = "never"
EPOCH_RULE = "transition.epoch must not go back"
"""Beginning of the CRD's own words where a transition carries a later leader's epoch."""


class KubernetesFleet:
    """Implements `controller.interfaces.FleetActuator`."""

    def __init__(
        self, client: Client, leadership: Leadership, wrote: Callable[[str, wire.GpuNode], None]
    ) -> None:
        """`wrote` is told the resourceVersion that was written over, and the GPUNode as stored since."""
        self._client = client
        self._leadership = leadership
        self._wrote = wrote

    async def write_intent(self, node: NodeName, intent: NodeIntent, revision: str) -> str:
        """See `FleetActuator`. The transition is written in the current epoch, whoever began it; one of a
        later epoch than ours is Stale. A merge patch that carries the resourceVersion is refused with 409 by
        the API server once the object has moved on."""
        what = f"GPUNode {node}"
        epoch = require_epoch(self._leadership, what)
        if intent.transition is not None:
            refuse_older(str(intent.transition.epoch), epoch, what)
        annotations: dict[str, str | None] = {EPOCH: str(epoch)}
        if intent.retry_heeded:
            annotations[RETRY] = None
        patch = {
            "metadata": {"resourceVersion": revision, "annotations": annotations},
            "spec": spec_of(intent, epoch),
        }
        try:
            written = await self._client.write(
                "PATCH", kinds.GPU_NODES.path(node), patch, wire.GpuNode, content_type=ContentType.MERGE_PATCH
            )
        except Rejected as refusal:
            if EPOCH_RULE in refusal.message:
                raise Stale(Reason.STALE_EPOCH, f"{what} was not written: {refusal.message}") from refusal
            raise
        self._wrote(revision, written)
        return written.metadata.resource_version

    async def write_directives(self, node: NodeName, directives: Directives, revision: str) -> None:
        """See `FleetActuator`."""
        epoch = require_epoch(self._leadership, f"GPUNode {node}")
        annotations = {EPOCH: str(epoch), **annotations_of(directives)}
        patch = {"metadata": {"resourceVersion": revision, "annotations": annotations}}
        path = kinds.GPU_NODES.path(node)
        written = await self._client.write(
            "PATCH", path, patch, wire.GpuNode, content_type=ContentType.MERGE_PATCH
        )
        self._wrote(revision, written)

    async def ensure_silence_noted(self, node: NodeName, since: float | None) -> None:
        """See `FleetActuator`. Nothing depends on it, so it is written over whatever is there."""
        epoch = require_epoch(self._leadership, f"GPUNode {node}")
        seen = None if since is None else to_rfc3339(since) if since else NEVER_SEEN
        patch = {"metadata": {"annotations": {EPOCH: str(epoch), AGENT_LAST_SEEN: seen}}}
        path = kinds.GPU_NODES.path(node)
        await self._client.write("PATCH", path, patch, wire.GpuNode, content_type=ContentType.MERGE_PATCH)
