"""Mirrors one kind of object from the API server into memory, and says how far it can be trusted.

An object that cannot be read, or of which the mirror's owner can make nothing, is set aside with the reason: it concerns
itself. Only what does not even say which object it is stops the mirror.

List in pages, then watch with bookmarks from where the list ended. A dropped watch goes on from the last
resourceVersion, if the API server has come as far: one that has not (etcd was restored from a backup) would answer that
watch with silence, so everything is listed again. So does 410. Every failure waits with growing, jittered pauses, so that an API server
that is down costs next to nothing. While it is down the mirror keeps what it has and `age` grows: whoever
acts on it must look at `synced` and `age` first.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog

from poolmgr.cluster.client import LIST_TIMEOUT_SECONDS, Client, backoff, decode
from poolmgr.domain.errors import Fault, PoolError, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import Unread
from poolmgr.wire import Status, Wire
from poolmgr.wire.decoding import decoded
from poolmgr.wire.http_errors import SERVER_ERROR, Absent, Expired, error_of
from poolmgr.wire.kinds import Kind
from poolmgr.wire.meta import Page, WatchEvent
from poolmgr.wire.text import whole

W = TypeVar("W")
R = TypeVar("R")

PAGE_SIZE = 1000
WATCH_SECONDS = 30.0
"""The server ends a watch after this (up to half more, jittered) and it is opened again where it stopped:
a bound on how long a connection that silently died goes unnoticed, at one cheap request a watch."""
ABSENT_RECHECK_SECONDS = 10.0
"""How often a kind that this cluster lacks is looked for."""
ABSENT_CONFIRM_SECONDS = 30.0
"""A kind that was there must be gone for so long before its objects are forgotten: an API server that is
starting may answer 404 for custom resources."""
QUICK_WATCH_SECONDS = 1.0
"""A watch that ends sooner than this without an event counts as a failure, or it would be a hot loop."""


class _Key(Wire, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Identity(Wire, frozen=True):
    metadata: _Key = _Key()


LONGEST_WHY = 300
"""Characters of what is wrong with an object: it may quote what a stranger wrote."""


class Aside(Protocol[R]):
    """What is to be kept in place of an object that cannot be read."""

    def __call__(self, raw: bytes, found: Unread, before: R | None, /) -> tuple[Unread, R | None]:
        """`before`: what was last read of it. Raises Fault where the mirror cannot be trusted any more."""
        ...


def drop(raw: bytes, found: Unread, before: Any) -> tuple[Unread, Any]:
    """Nothing is kept."""
    return found, None


def keep_last(raw: bytes, found: Unread, before: R | None) -> tuple[Unread, R | None]:
    return found, before


class Reflector(Generic[W, R]):
    """Holds the records of one kind by key (`namespace/name`, or `name`).

    `project` turns a wire object into the record that is kept, None to keep nothing; `apply` is told of every
    record that differs from the one before. Both run in the event loop and must not wait.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        wire: type[W],
        *,
        project: Callable[[W], R | None],
        apply: Callable[[str, R | None], None],
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        optional: bool = False,
        aside: Aside[R] = drop,
        apply_unread: Callable[[str, Unread | None], None] = lambda key, found: None,
    ) -> None:
        """`namespace`: only its objects; empty for all. `apply_unread` is told of each object that is set aside, and with
        None of each that is read again or gone."""
        self._client = client
        self._clock = client.clock
        self._kind = kind
        self._path = kind.path(namespace=namespace)
        self._decoder = msgspec.json.Decoder(wire)
        self._identity = msgspec.json.Decoder(_Identity)
        self._event = msgspec.json.Decoder(WatchEvent)
        self._project = project
        self._apply = apply
        self._selectors = {
            name: value
            for name, value in (("labelSelector", label_selector), ("fieldSelector", field_selector))
            if value
        }
        self._optional = optional
        self._aside = aside
        self._apply_unread = apply_unread
        self._unread: dict[str, Unread] = {}
        self._records: dict[str, R] = {}
        self._written_over: dict[str, set[str]] = {}
        """Key → resourceVersions that this process has written over, until the watch is past them."""
        self._resource_version = ""
        self._followed = False
        """A watch has been opened since the last list."""
        self._synced = False
        self._listed = asyncio.Event()
        self._relist = False
        self._heard_at = self._clock.monotonic()
        self._absent_since: float | None = None
        self._log = structlog.get_logger().bind(kind=str(kind))
        self.problem = ""
        """Why the mirror is not up to date, in a sentence; empty while it is."""

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def synced(self) -> bool:
        """True once everything has been listed (or an optional kind is known to be absent)."""
        return self._synced

    async def wait_listed(self) -> None:
        """Return once the first list (or the finding that the kind is absent) is done."""
        await self._listed.wait()

    @property
    def age(self) -> float:
        """Seconds since the API server last confirmed the mirror: list, event, bookmark or end of a watch."""
        return self._clock.monotonic() - self._heard_at

    @property
    def heard_at(self) -> float:
        """When that was, by the monotonic clock."""
        return self._heard_at

    @property
    def unread(self) -> dict[str, Unread]:
        """By key what could not be read; do not change it."""
        return self._unread

    @property
    def records(self) -> dict[str, R]:
        """Do not change it."""
        return self._records

    def relist(self) -> None:
        """List again at the next chance, because `project` has become another function."""
        self._relist = True
        self._synced = False

    def wrote(self, key: str, over: str, record: R) -> None:
        """Show `record`, what the API server answered to this process's write over the resourceVersion `over` of the
        object, before the watch tells of it. The mirror must hold the object at `over`. No version that was written
        over is shown again: a list or a watch that is behind the answer may still bring one."""
        self._written_over.setdefault(key, set()).add(over)
        self._records[key] = record
        self._apply(key, record)

    async def run(self) -> None:
        """Until cancelled. Raises nothing of the API server's; a defect (Fault) is logged and retried too,
        with the mirror not synced meanwhile."""
        attempt = 0
        while True:
            try:
                if not self._resource_version or self._relist or await self._is_behind_us():
                    await self._list()
                    attempt = 0
                if self._resource_version:
                    quick = await self._watch()
                    attempt = attempt + 1 if quick else 0
                    pause = backoff(self._client.rng, attempt) if quick else 0.0
                else:
                    pause = ABSENT_RECHECK_SECONDS
            except Expired as error:
                self._log.info("watch_expired", detail=error.message)
                self._resource_version = ""
                attempt += 1
                pause = backoff(self._client.rng, attempt)
            except PoolError as error:
                attempt += 1
                pause = self._failed(error, attempt)
            except Exception as error:  # noqa: BLE001 - no answer of a server ends the process
                attempt += 1
                self._log.exception("watch_not_understood")
                pause = self._failed(_defect(self._kind, error), attempt)
            if pause:
                await self._clock.sleep(pause)
            else:
                await asyncio.sleep(0)

    def _failed(self, error: PoolError, attempt: int) -> float:
        """Note the failure; seconds to wait."""
        self.problem = error.message
        pause = backoff(self._client.rng, attempt)
        if isinstance(error, Unavailable):
            if attempt == 1:
                self._log.warning("watch_interrupted", detail=error.message)
            return max(pause, min(error.retry_after_seconds, pause * 4))
        # Refused or not understood: what is in memory may be wrong from now on, so it is not trusted.
        self._synced = False
        self._resource_version = ""
        self._log.error("watch_failed", reason=error.reason.value, detail=error.message)
        return max(pause, 1.0)

    async def _is_behind_us(self) -> bool:
        """Whether the API server's history ends before what was seen of it, or does not say where it ends. What was seen
        then is a history that is no more: nobody may trust it until everything has been listed.

        A list without resourceVersion is answered from the newest state (Kubernetes, API concepts, "resourceVersion in
        list"), and resourceVersions can be compared as numbers (KEP-5504).
        """
        if not self._followed:
            return False
        query = {**self._selectors, "limit": "1"}
        page = await self._client.read(
            self._path,
            Page[msgspec.Raw],
            query=query,
            timeout_seconds=LIST_TIMEOUT_SECONDS,
            deadline_seconds=0.0,
        )
        known, there = whole(self._resource_version), whole(page.metadata.resource_version, otherwise=-1)
        if there >= known:
            return False
        self._synced = False
        self._written_over.clear()
        self.problem = f"the API server has gone back to an older state of {self._kind}; all of them are being read again"
        self._log.warning(
            "history_went_back", seen=self._resource_version, there=page.metadata.resource_version
        )
        return True

    async def _list(self) -> None:
        self._relist = self._followed = False
        seen: set[str] = set()
        query = {**self._selectors, "limit": str(PAGE_SIZE)}
        path = self._path
        while True:
            try:
                page = await self._client.read(
                    path,
                    Page[msgspec.Raw],
                    query=query,
                    timeout_seconds=LIST_TIMEOUT_SECONDS,
                    deadline_seconds=0.0,
                )
            except Absent:
                if not self._optional:
                    raise
                self._found_absent()
                return
            for raw in page.items or ():
                seen.add(self._store(raw))
            # Other coroutines (lease renewal first of all) get their turn between pages.
            await asyncio.sleep(0)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        for key in {*self._records, *self._unread} - seen:
            self._forget(key)
        self._resource_version = page.metadata.resource_version
        self._absent_since = None
        self._confirmed()
        self._synced = not self._relist
        self._listed.set()

    def _found_absent(self) -> None:
        now = self._clock.monotonic()
        if self._absent_since is None:
            self._absent_since = now
        self._resource_version = ""
        if self._records and now - self._absent_since < ABSENT_CONFIRM_SECONDS:
            self._synced = False
            self.problem = (
                f"{self._kind} has vanished from the API server; waiting to see whether it returns."
            )
            return
        for key in {*self._records, *self._unread}:
            self._forget(key)
        self._confirmed()
        self._synced = True
        self._listed.set()

    async def _watch(self) -> bool:
        """Follow until the server ends it. True if it ended at once without a word."""
        seconds = WATCH_SECONDS * self._client.rng.uniform(1.0, 1.5)
        query = {
            **self._selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._resource_version,
            "timeoutSeconds": str(int(seconds)),
        }
        started = self._clock.monotonic()
        events = 0
        self._followed = True
        # The server ends the watch by itself; silence beyond that is a dead connection.
        async with self._client.watch(self._path, query, read_timeout_seconds=seconds + 10.0) as lines:
            async for line in lines:
                self._take(line)
                events += 1
                if self._relist:
                    return False
        self._confirmed()
        return events == 0 and self._clock.monotonic() - started < QUICK_WATCH_SECONDS

    def _take(self, line: bytes) -> None:
        try:
            event = decoded(self._event, line)
        except msgspec.DecodeError:
            event = WatchEvent("ERROR", msgspec.Raw(line))
        match event.type:
            case "ERROR":
                body = bytes(event.object)
                code = decode(body, Status, f"watch {self._kind.path()}").code
                raise error_of(code or SERVER_ERROR, body, f"watch {self._kind.path()}")
            case "BOOKMARK":
                self._resource_version = self._identify(event.object).resource_version
            case "DELETED":
                meta = self._identify(event.object)
                self._forget(_key(meta))
                self._resource_version = meta.resource_version
            case _:
                meta = self._identify(event.object)
                self._store(event.object, meta)
                self._resource_version = meta.resource_version
        self._confirmed()

    def _store(self, raw: msgspec.Raw, meta: _Key | None = None) -> str:
        meta = meta or self._identify(raw)
        key = _key(meta)
        if key in self._written_over:
            if meta.resource_version in self._written_over[key]:
                return key
            del self._written_over[key]
        before = self._records.get(key)
        try:
            self._put(key, self._project(decoded(self._decoder, raw)))
        except Exception as error:  # noqa: BLE001 - whatever a stranger wrote, it concerns this object
            self._set_aside(key, meta, bytes(raw), error, before)
        else:
            if self._unread.pop(key, None) is not None:
                self._log.info("object_read_again", object=key)
                self._apply_unread(key, None)
        return key

    def _put(self, key: str, record: R | None) -> None:
        if record is None:
            self._written_over.pop(key, None)
            if self._records.pop(key, None) is not None:
                self._apply(key, None)
        elif self._records.get(key) != record:
            self._records[key] = record
            self._apply(key, record)

    def _set_aside(self, key: str, meta: _Key, raw: bytes, error: Exception, before: R | None) -> None:
        why = f"{type(error).__name__}: {error}"[:LONGEST_WHY]
        found = Unread(str(self._kind), meta.namespace, meta.name, why, uid=meta.uid)
        found, record = self._aside(raw, found, before)
        self._put(key, record)
        if self._unread.get(key) != found:
            self._log.warning("object_set_aside", object=key, detail=why)
            self._unread[key] = found
            self._apply_unread(key, found)

    def _forget(self, key: str) -> None:
        if self._unread.pop(key, None) is not None:
            self._apply_unread(key, None)
        self._put(key, None)

    def _identify(self, raw: msgspec.Raw) -> _Key:
        try:
            return decoded(self._identity, raw).metadata
        except msgspec.DecodeError as error:
            raise _unreadable(self._kind, "an object", error) from error

    def _confirmed(self) -> None:
        self._heard_at = self._clock.monotonic()
        self.problem = ""


AnyReflector = Reflector[Any, Any]


def _key(meta: _Key) -> str:
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def _defect(kind: Kind, error: Exception) -> PoolError:
    return Fault(
        Reason.INVARIANT_BROKEN,
        f"what the API server says of {kind} is not understood ({type(error).__name__}); the traceback is in the log.",
    )


def _unreadable(kind: Kind, key: str, error: Exception) -> PoolError:
    return Fault(
        Reason.INVARIANT_BROKEN,
        f"{kind} {key} does not match its schema ({error}). Nothing is moved until it can be read.",
    )
