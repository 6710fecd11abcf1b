"""Changes of one Node, each as one compare-and-swap in the leader's epoch.

What to change is decided by a pure function of the Node; here it is read, written, and read again where someone else
wrote in between.
"""

from collections.abc import Callable
from typing import Any

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType, backoff
from poolmgr.cluster.fencing import Leadership, refuse_older, require_epoch
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.annotations import EPOCH

Patch = dict[str, Any]
"""A merge patch."""

ATTEMPTS = 5
"""Nodes are written by their kubelet, by HAMi and by others; five tries outlast any but a livelock."""


class NodeWriter:
    def __init__(self, client: Client, leadership: Leadership) -> None:
        self._client = client
        self._leadership = leadership

    async def ensure(self, name: NodeName, patch_for: Callable[[wire.Node], Patch | None]) -> None:
        """Have the Node be as `patch_for` makes it, which answers None for one that is so. Raises Stale where the lease is
        not held, a later leader has written, or others write all the time; Unavailable; what `patch_for` raises."""
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
