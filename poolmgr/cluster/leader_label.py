"""Marks the pod that leads, so that a Service with this label in its selector sends everybody there.

The leader writes its own mark and takes it off every other pod, again and again: a pod that led before may not be able to.
For some seconds after a failover the Service has no pod, or one that says that it does not lead. Nothing is decided by the
mark.
"""

from collections.abc import Mapping

import structlog

from poolmgr.cluster.client import Client, ContentType
from poolmgr.cluster.look import listed
from poolmgr.domain.errors import PoolError
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.wire import kinds
from poolmgr.wire.annotations import LEADS, LEADS_VALUE
from poolmgr.wire.meta import Labelled

log = structlog.get_logger()

AGAIN_SECONDS = 10.0
"""Between two looks at who has the mark, and until a write that failed is tried again."""


class LeaderLabel:
    """Of the pod `pod` in `namespace`, which this process runs in."""

    def __init__(self, client: Client, namespace: str, pod: str) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod

    async def keep(self, _epoch: LeaseEpoch) -> None:
        """What leading consists of here, until it is cancelled."""
        said = ""
        while True:
            try:
                await self.mark()
                said = ""
            except PoolError as error:
                if error.message != said:
                    log.warning("leader_not_marked", pod=self._pod, detail=error.message)
                said = error.message
            await self._client.clock.sleep(AGAIN_SECONDS)

    async def mark(self) -> None:
        """One look. Raises PoolError where the API server says no."""
        marked = await listed(
            self._client, kinds.PODS, Labelled, namespace=self._namespace, labels=f"{LEADS}={LEADS_VALUE}"
        )
        names = {pod.metadata.name for pod in marked if pod.metadata.labels.get(LEADS) == LEADS_VALUE}
        for name in sorted(names - {self._pod}):
            await self._set(name, {LEADS: None})
        if self._pod not in names:
            await self._set(self._pod, {LEADS: LEADS_VALUE})

    async def _set(self, pod: str, labels: Mapping[str, str | None]) -> None:
        path = kinds.PODS.path(pod, namespace=self._namespace)
        body = {"metadata": {"labels": dict(labels)}}
        await self._client.write("PATCH", path, body, Labelled, content_type=ContentType.MERGE_PATCH)
