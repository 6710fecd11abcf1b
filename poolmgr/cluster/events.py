"""Publishes Kubernetes Events: merged when equal, limited per object, never in the way.

`event` only queues; `run` writes. An Event is for people: losing one costs a line in `kubectl describe`,
waiting for one would delay a move.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from poolmgr.cluster.client import Client, ContentType
from poolmgr.cluster.references import ObjectReference
from poolmgr.domain.errors import PoolError
from poolmgr.domain.plan import Subject
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.http_errors import Absent
from poolmgr.wire.instants import to_rfc3339

log = structlog.get_logger()

COMPONENT = "poolmgr-manager"
MERGE_SECONDS = 600.0
"""Equal Events within this time count up one object (client-go's correlator: 10 min)."""
BURST = 25
REFILL_SECONDS = 60.0
"""Each object may have this burst of new Events and one more a minute: a flapping object must not fill etcd."""
QUEUE_LENGTH = 1000
REMEMBERED = 4096
MESSAGE_LIMIT = 1024
"""The API server refuses longer messages."""


class _Written(msgspec.Struct, frozen=True):
    metadata: dict[str, msgspec.Raw] = {}


@dataclass(slots=True)
class _Entry:
    path: str
    count: int
    last_at: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


_Key = tuple[ObjectReference, str, str, str]


class KubernetesRecorder:
    """Implements `controller.interfaces.Recorder`. `resolve` finds the objects that a subject is."""

    def __init__(
        self, client: Client, resolve: Callable[[Subject], tuple[ObjectReference, ...]], *, instance: str
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._resolve = resolve
        self._instance = instance
        self._queue: deque[_Key] = deque()
        self._filled = asyncio.Event()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._buckets: OrderedDict[ObjectReference, _Bucket] = OrderedDict()
        self.dropped = 0
        """Events not written, because of limits or an API server that did not take them."""

    async def event(self, subject: Subject, reason: Reason, message: str, *, warning: bool = False) -> None:
        """See `Recorder`. Returns at once."""
        kind = "Warning" if warning else "Normal"
        for reference in self._resolve(subject):
            if len(self._queue) >= QUEUE_LENGTH:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append((reference, kind, reason.value, message[:MESSAGE_LIMIT]))
            self._filled.set()

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        while True:
            await self._filled.wait()
            while self._queue:
                key = self._queue.popleft()
                try:
                    await self._publish(key)
                except PoolError as error:
                    self.dropped += 1
                    log.warning(
                        "event_not_written",
                        kind=key[0].kind,
                        name=key[0].name,
                        reason=key[2],
                        detail=error.message,
                    )
            self._filled.clear()

    async def _publish(self, key: _Key) -> None:
        now = self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is not None and now - entry.last_at < MERGE_SECONDS:
            entry.count += 1
            entry.last_at = now
            patch = {"count": entry.count, "lastTimestamp": to_rfc3339(self._clock.now())}
            try:
                await self._client.write(
                    "PATCH", entry.path, patch, _Written, content_type=ContentType.MERGE_PATCH
                )
                return
            except Absent:  # the API server forgets Events after an hour
                del self._entries[key]
        if not self._admitted(key[0], now):
            self.dropped += 1
            return
        await self._create(key, now)

    async def _create(self, key: _Key, now: float) -> None:
        reference, kind, reason, message = key
        # Events about cluster-scoped objects live in `default`, as Kubernetes' own do.
        namespace = reference.namespace or "default"
        # A suffix of 64 random bits, as client-go takes the time in nanoseconds: unique enough per object.
        name = f"{reference.name[:200]}.{self._client.rng.getrandbits(64):016x}"
        instant = to_rfc3339(self._clock.now())
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": msgspec.to_builtins(reference),
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": instant,
            "lastTimestamp": instant,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance[:128],
        }
        await self._client.write("POST", kinds.EVENTS.path(namespace=namespace), body, _Written)
        self._entries[key] = _Entry(kinds.EVENTS.path(name, namespace=namespace), 1, now)
        self._entries.move_to_end(key)
        while len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)

    def _admitted(self, reference: ObjectReference, now: float) -> bool:
        bucket = self._buckets.setdefault(reference, _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) / REFILL_SECONDS)
        bucket.filled_at = now
        self._buckets.move_to_end(reference)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
