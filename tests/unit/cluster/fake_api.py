"""An API server in memory behind `transport.Transport`: enough of one to be wrong in the ways a real one is.

Objects by path, one resourceVersion counter, optimistic locking, merge patches, paged lists, watches with
bookmarks, compaction, etcd put back to a backup. Faults: outages, dropped watches, answers lost after their effect, delays.
`tests/integration/cluster` runs the same checks against the real one.
"""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.reasons import Reason
from tests.unit.cluster.virtual_clock import VirtualClock

Json = dict[str, Any]
MAX_INT32 = 2**31 - 1
Line = tuple[int, str, bytes]
LOOK = "GET limit=1"
"""How a list of one object is counted."""


class FakeApi:
    """One cluster. `transport()` gives a client's connection to it."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.objects: dict[str, Json] = {}
        self.kinds: set[str] = set()
        """Collection paths that exist; others answer 404."""
        self.missing_namespaces: set[str] = set()
        """Nothing can be created in these."""
        self.version = 100
        self.compacted = 0
        self.requests: list[tuple[str, str]] = []
        self.page_limit = 1000
        self.on_list: Callable[[], None] = lambda: None
        """Called before each list but that of one object."""
        self._history: list[Line] = []
        self._watchers: list[asyncio.Queue[Line | None]] = []

    def transport(self) -> "FakeTransport":
        return FakeTransport(self)

    def put(self, collection: str, document: Json) -> Json:
        """Create or replace as the cluster itself would."""
        self.kinds.add(collection)
        path = f"{_item_prefix(collection, document)}/{document['metadata']['name']}"
        known = path in self.objects
        return self._store(path, copy.deepcopy(document), "MODIFIED" if known else "ADDED")

    def remove(self, path: str) -> None:
        document = self.objects.pop(path)
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self._tell(self.version, "DELETED", path, document)

    def get(self, path: str) -> Json:
        return self.objects[path]

    def bookmark(self) -> None:
        self.version += 1
        body = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}
        for queue in self._watchers:
            queue.put_nowait((self.version, "", json.dumps(body).encode()))

    def compact(self) -> None:
        """Forget all history: older resourceVersions answer 410."""
        self.version += 1
        self.compacted = self.version
        self._history.clear()

    def backup(self) -> tuple[int, dict[str, Json]]:
        return self.version, copy.deepcopy(self.objects)

    def restore(self, backup: tuple[int, dict[str, Json]]) -> None:
        """As `etcdctl snapshot restore` does without `--bump-revision`: older objects, an older counter, no history."""
        self.version, self.objects = backup[0], copy.deepcopy(backup[1])
        self._history.clear()
        self.end_watches()

    def end_watches(self) -> None:
        """End every open watch as a server does at its timeout."""
        for queue in self._watchers:
            queue.put_nowait(None)

    def error_watches(self, code: int) -> None:
        body = {"type": "ERROR", "object": {"code": code, "message": "too old resource version"}}
        for queue in self._watchers:
            queue.put_nowait((MAX_INT32, "", json.dumps(body).encode()))

    def count(self, method: str, *, since: int = 0) -> int:
        return sum(m == method for m, _ in self.requests[since:])

    def handle(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> Response:
        if method == "GET":
            return self._get(path) if path in self.objects else self._list(path, query)
        if (((body or {}).get("spec") or {}).get("leaseTransitions") or 0) > MAX_INT32:
            return _status(400, "cannot be handled as a Lease: cannot unmarshal number into leaseTransitions")
        if method == "POST" and path.endswith("/selfsubjectreviews"):
            return _ok({"status": {"userInfo": {"username": "alice"}}})
        if method == "POST":
            for namespace in self.missing_namespaces:
                if f"/namespaces/{namespace}/" in path:
                    return _status(404, f'namespaces "{namespace}" not found')
            return self._create(path, body)
        if path.endswith("/status"):
            path, body = path.removesuffix("/status"), {"status": body["status"]}
        if path not in self.objects:
            return _status(404, "not found")
        stored = self.objects[path]
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != stored["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        changed = copy.deepcopy(body) if method == "PUT" else _merged(copy.deepcopy(stored), body)
        if {**changed, "metadata": {**changed["metadata"], "resourceVersion": ""}} == {
            **stored,
            "metadata": {**stored["metadata"], "resourceVersion": ""},
        }:
            return _ok(stored)
        if changed.get("spec") != stored.get("spec") and "generation" in stored["metadata"]:
            changed["metadata"]["generation"] = stored["metadata"]["generation"] + 1
        return _ok(self._store(path, changed, "MODIFIED"))

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[Line | None] = asyncio.Queue()
        since = int(query["resourceVersion"])
        for line in self._history:
            queue.put_nowait(line)
        self._watchers.append(queue)
        timer = asyncio.ensure_future(self.clock.sleep(float(query["timeoutSeconds"])))
        try:
            while True:
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait({getting, timer}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    return
                line = getting.result()
                if line is None:
                    return
                if line[0] > since and (not line[1] or _in(path, line[1])):
                    yield line[2]
        finally:
            timer.cancel()
            self._watchers.remove(queue)

    def _get(self, path: str) -> Response:
        return _ok(self.objects[path])

    def _list(self, path: str, query: Mapping[str, str]) -> Response:
        if path not in self.kinds:
            return _status(404, "the server could not find the requested resource")
        keys = sorted(key for key in self.objects if _in(path, key))
        if "continue" in query:
            at, version = map(int, query["continue"].split(":"))
            if version < self.compacted:
                return _status(410, "continue token too old")
        else:
            at = 0
        if query.get("limit") != "1":
            self.on_list()
        limit = min(int(query.get("limit", self.page_limit)), self.page_limit)
        page = keys[at : at + limit]
        meta = {"resourceVersion": str(self.version)}
        if at + limit < len(keys):
            meta["continue"] = f"{at + limit}:{self.version}"
        return _ok({"metadata": meta, "items": [self.objects[key] for key in page]})

    def _create(self, path: str, body: Json) -> Response:
        item = f"{path}/{body['metadata']['name']}"
        if item in self.objects:
            return _status(409, "already exists")
        self.kinds.add(path)
        return Response(201, json.dumps(self._store(item, copy.deepcopy(body), "ADDED")).encode())

    def _store(self, path: str, document: Json, event: str) -> Json:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = document
        self._tell(self.version, event, path, document)
        return document

    def _tell(self, version: int, event: str, path: str, document: Json) -> None:
        line = (version, path, json.dumps({"type": event, "object": document}).encode())
        self._history.append(line)
        for queue in self._watchers:
            queue.put_nowait(line)


class FakeTransport:
    """One client's connection. Each fault is its own, as a partition is."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.down = False
        """Nothing gets through, and open watches break."""
        self.lose_answers = False
        """Writes take effect and their answer never comes."""
        self.delay = 0.0
        """Seconds before a request reaches the server."""
        self.forbidden: frozenset[str] = frozenset()
        """Collections that this client has no right to."""
        self.answers: list[Response] = []
        """Given to the next requests instead of the server's answer."""

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object | None,
        content_type: str,
        timeout_seconds: float,
    ) -> Response:
        self.api.requests.append((LOOK if query.get("limit") == "1" else method, path))
        if self.delay:
            await self.api.clock.sleep(min(self.delay, timeout_seconds))
            if self.delay > timeout_seconds:
                raise _unavailable()
        if self.down:
            raise _unavailable()
        if self.answers:
            return self.answers.pop(0)
        if path in self.forbidden:
            return _status(403, 'User "ada" cannot list it')
        response = self.api.handle(method, path, query, body, content_type)
        if self.lose_answers and method != "GET":
            raise _unavailable()
        return response

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], read_timeout_seconds: float
    ) -> AsyncIterator[Response | AsyncIterator[bytes]]:
        self.api.requests.append(("WATCH", path))
        if self.down:
            raise _unavailable()
        if path not in self.api.kinds:
            yield _status(404, "no such kind")
        elif int(query["resourceVersion"]) < self.api.compacted:
            yield _status(410, "too old")
        else:
            yield self._lines(path, query)

    async def _lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        async for line in self.api.watch(path, query):
            if self.down:
                raise _unavailable()
            yield line
        if self.down:
            raise _unavailable()

    async def close(self) -> None:
        return None


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    target = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _merged(target.get(key), value)
    return target


def _item_prefix(collection: str, document: Json) -> str:
    namespace = document["metadata"].get("namespace")
    if not namespace:
        return collection
    head, _, plural = collection.rpartition("/")
    return f"{head}/namespaces/{namespace}/{plural}"


def _in(collection: str, path: str) -> bool:
    """True when the object at `path` is in `collection`, all namespaces included."""
    parent = path.rpartition("/")[0]
    if parent == collection:
        return True
    head, _, plural = collection.rpartition("/")
    return parent.startswith(f"{head}/namespaces/") and parent.endswith(f"/{plural}")


def _ok(document: Json) -> Response:
    return Response(200, json.dumps(document).encode())


def _status(code: int, message: str) -> Response:
    return Response(code, json.dumps({"kind": "Status", "code": code, "message": message}).encode())


def _unavailable() -> Unavailable:
    return Unavailable(Reason.API_UNAVAILABLE, "The API server did not answer (connection refused).")
