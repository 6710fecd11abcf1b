"""Keeps the GPUs that waiting pods must not get up to date.

While a GPU is on its way to passthrough, or kept for a reservation, the webhook adds its UUID to new pods'
`nvidia.com/nouse-gpuuuid` and notes it in `poolmgr.io/excluded-by-poolmgr`. The annotation outlives that: a pod that
still waits when the GPU comes back could never be placed on it. And a pod that waited before a card was kept knows nothing
of it. What the user excluded is not ours to touch.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import structlog

from poolmgr.cluster.client import LIST_TIMEOUT_SECONDS, Client, ContentType
from poolmgr.cluster.fencing import Leadership
from poolmgr.domain.errors import PoolError, Stale
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire import Wire, kinds
from poolmgr.wire.annotations import EXCLUDED_BY_US
from poolmgr.wire.hami.names import NOUSE_UUID
from poolmgr.wire.http_errors import Absent
from poolmgr.wire.meta import Page
from poolmgr.wire.text import listed

LOOK_SECONDS = 15.0
"""HAMi's scheduler looks at a pod again after up to five minutes; this need not be fast."""
PAGE_SIZE = 500
log = structlog.get_logger()


class _Annotations(Wire, frozen=True):
    nouse: str = msgspec.field(name=NOUSE_UUID, default="")
    ours: str = msgspec.field(name=EXCLUDED_BY_US, default="")


class _Meta(Wire, frozen=True):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: _Annotations = _Annotations()


class _Pod(Wire, frozen=True):
    metadata: _Meta = _Meta()


class Exclusions(NamedTuple):
    """Of one pod."""

    may_stay: frozenset[GpuUuid]
    """What was excluded by us stays excluded where it is among these."""
    needed: frozenset[GpuUuid]
    """These have to be, whoever has not excluded them yet."""


def renewed(nouse: str, ours: str, wanted: Exclusions) -> tuple[str, str] | None:
    """Both annotations as they should be; None where nothing changes."""
    noted, named = listed(ours), listed(nouse)
    staying = [uuid for uuid in noted if uuid in wanted.may_stay or uuid in wanted.needed]
    added = [str(uuid) for uuid in sorted(wanted.needed) if uuid not in named]
    if len(staying) == len(noted) and not added:
        return None
    gone = set(noted) - set(staying)
    return ",".join([uuid for uuid in named if uuid not in gone] + added), ",".join(staying + added)


class KubernetesExclusions:
    """`rule` answers what holds now for each pod, by `NAMESPACE/NAME`; None while that is not surely known."""

    def __init__(
        self,
        client: Client,
        leadership: Leadership,
        rule: Callable[[], Callable[[str], Exclusions] | None],
    ) -> None:
        self._client = client
        self._leadership = leadership
        self._rule = rule

    async def run(self) -> None:
        """Until cancelled; acts while leading. What cannot be done now is done at a later look."""
        while True:
            await self._client.clock.sleep(LOOK_SECONDS)
            try:
                await self.renew()
            except PoolError as error:
                log.warning("exclusions_not_renewed", reason=error.reason.value, detail=error.message)

    async def renew(self) -> int:
        """Look at all waiting pods once; answers how many were changed."""
        changed = 0
        query = {"fieldSelector": "status.phase=Pending", "limit": str(PAGE_SIZE)}
        while self._leadership.epoch is not None and (wanted := self._rule()) is not None:
            page = await self._client.read(
                kinds.PODS.path(), Page[_Pod], query=query, timeout_seconds=LIST_TIMEOUT_SECONDS
            )
            for pod in page.items or ():
                name = f"{pod.metadata.namespace}/{pod.metadata.name}"
                changed += await self._renew(pod.metadata, wanted(name))
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        return changed

    async def _renew(self, meta: _Meta, wanted: Exclusions) -> bool:
        annotations_now = renewed(meta.annotations.nouse, meta.annotations.ours, wanted)
        if annotations_now is None:
            return False
        nouse, ours = annotations_now
        # An annotation that is empty goes: HAMi would read it as a list with one empty name.
        annotations = {NOUSE_UUID: nouse or None, EXCLUDED_BY_US: ours or None}
        patch = {"metadata": {"resourceVersion": meta.resource_version, "annotations": annotations}}
        path = kinds.PODS.path(meta.name, namespace=meta.namespace)
        try:
            await self._client.write("PATCH", path, patch, _Pod, content_type=ContentType.MERGE_PATCH)
        except (Stale, Absent):
            return False  # someone else wrote it, or it is gone: the next look sees it anew
        log.info("exclusions_renewed", namespace=meta.namespace, pod=meta.name, now=ours)
        return True
