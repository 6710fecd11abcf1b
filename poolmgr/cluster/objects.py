"""A cluster in a file: Kubernetes objects as `kubectl get -o yaml` prints them, answered as an API server answers lists.

What reads a live cluster reads such a file by the same code. Nothing can be written, and nothing ever changes.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import yaml

from poolmgr import wire
from poolmgr.cluster.edits import changed, parse_edit
from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.http_errors import OK
from poolmgr.wire.instants import to_rfc3339
from poolmgr.wire.kinds import Kind

Json = dict[str, Any]
READ: dict[Kind, type[Any]] = {
    kinds.NODES: wire.Node,
    kinds.PODS: wire.Pod,
    kinds.VOLUME_CLAIMS: wire.PersistentVolumeClaim,
    kinds.VOLUMES: wire.PersistentVolume,
    kinds.STORAGE_CLASSES: wire.StorageClass,
    kinds.CONFIG_MAPS: wire.ConfigMap,
    kinds.DAEMON_SETS: wire.DaemonSet,
    kinds.DEPLOYMENTS: wire.Deployment,
    kinds.DISRUPTION_BUDGETS: wire.DisruptionBudget,
    kinds.GPU_POOLS: wire.GpuPool,
    kinds.GPU_NODES: wire.GpuNode,
    kinds.GPU_RESERVATIONS: wire.GpuReservation,
    kinds.VIRTUAL_MACHINES: wire.VirtualMachine,
    kinds.VIRTUAL_MACHINE_INSTANCES: wire.VirtualMachineInstance,
}
"""What decisions look at, and as what."""
NAMES_SHOWN = 8
_KINDS = {(kind.group, kind.plural): kind for kind in READ}


def parse_objects(text: str, source: str) -> list[Json]:
    """The objects of a YAML or JSON text, lists taken apart. Raises Rejected that names `source` and the place."""
    try:
        documents = [json.loads(text)] if text.lstrip().startswith("{") else _yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise Rejected(Reason.INVALID_BODY, f"{source} is neither YAML nor JSON: {error}") from error
    found: list[Json] = []
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        items = document.get("items") if isinstance(document, dict) else None
        for item in items if isinstance(items, list) else [document]:
            if not _is_object(item):
                raise Rejected(
                    Reason.INVALID_BODY,
                    f"document {number} of {source} is no Kubernetes object: it needs apiVersion, kind and metadata.name",
                )
            found.append(item)
    return found


def _yaml(text: str) -> list[Any]:
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def _is_object(item: object) -> bool:
    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        return False
    words = (item.get("apiVersion"), item.get("kind"), item["metadata"].get("name"))
    return all(isinstance(word, str) and word for word in words)


def kind_of(document: Json) -> tuple[str, str]:
    """Group and plural, by the rule that every kind read here follows."""
    group, _, _version = document["apiVersion"].rpartition("/")
    name = document["kind"].lower()
    return group, f"{name}es" if name.endswith("s") else f"{name}s"


class ObjectStore:
    """Objects by kind and name; one of the same name takes the place of an earlier one. It is a
    `transport.Transport`."""

    def __init__(self, objects: Iterable[Json], now: float) -> None:
        """`now`: when what does not say so was made, Unix seconds."""
        self._objects: dict[Kind, dict[tuple[str, str], Json]] = {kind: {} for kind in READ}
        self.passed_over: dict[str, int] = {}
        """Kind → how many objects of it there are that no decision looks at."""
        self._now = to_rfc3339(now)
        for document in objects:
            self.add(document)

    def add(self, document: Json) -> None:
        kind = _KINDS.get(kind_of(document))
        if kind is None:
            name = document["kind"]
            self.passed_over[name] = self.passed_over.get(name, 0) + 1
            return
        meta = document["metadata"]
        namespace = meta.get("namespace") or ("default" if kind.namespaced else "")
        made = {"creationTimestamp": self._now, "uid": f"{kind}/{namespace}/{meta['name']}"}
        named = {"namespace": namespace} if namespace else {}
        whole = {**made, **{key: value for key, value in meta.items() if value is not None}, **named}
        self._objects[kind][namespace, meta["name"]] = {**document, "metadata": whole}

    def cordon(self, node: str) -> None:
        """As `kubectl cordon`. Raises Rejected where there is no such Node."""
        found = self._objects[kinds.NODES].get(("", node))
        if found is None:
            known = ", ".join(sorted(name for _, name in self._objects[kinds.NODES])) or "none"
            raise Rejected(Reason.NOT_FOUND, f"there is no Node {node} in the objects; there are: {known}")
        self._objects[kinds.NODES]["", node] = {
            **found,
            "spec": {**(found.get("spec") or {}), "unschedulable": True},
        }

    def set(self, text: str) -> None:
        """One field of one object, by `edits.parse_edit`. Raises Rejected where there is no such object or field."""
        edit = parse_edit(text, READ)
        objects = self._objects[edit.kind]
        found = [key for key in objects if key[1] == edit.name and edit.namespace in ("", key[0])]
        if len(found) != 1:
            names = ["/".join(filter(None, key)) for key in sorted(found or objects)]
            raise Rejected(
                Reason.NOT_FOUND,
                f"--set {text!r}: {'several' if found else 'none'} of the {edit.kind.plural} in the objects have this name; "
                f"there are: {', '.join(names[:NAMES_SHOWN]) or 'none'}{', …' if len(names) > NAMES_SHOWN else ''}",
            )
        objects[found[0]] = changed(objects[found[0]], edit, READ[edit.kind])

    def of(self, kind: Kind) -> Sequence[Json]:
        return list(self._objects[kind].values())

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object | None,
        content_type: str,
        timeout_seconds: float,
    ) -> Response:
        if method != "GET":
            raise Rejected(Reason.INVALID_REQUEST, "a file of objects cannot be changed")
        items = [
            item
            for kind, objects in self._objects.items()
            for item in objects.values()
            if path in (kind.path(), kind.path(namespace=item["metadata"].get("namespace", "")))
            and _selected(item, query)
        ]
        return Response(OK, msgspec.json.encode({"metadata": {"resourceVersion": "1"}, "items": items}))

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], read_timeout_seconds: float
    ) -> AsyncIterator[Response | AsyncIterator[bytes]]:
        yield _nothing()

    async def close(self) -> None:
        return None


async def _nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def _selected(item: Json, query: Mapping[str, str]) -> bool:
    """Selectors of the one form that is asked for here: a name and its value."""
    labels = item["metadata"].get("labels") or {}
    label, _, value = query.get("labelSelector", "").partition("=")
    field, _, wanted = query.get("fieldSelector", "").partition("=")
    return (not label or labels.get(label) == value) and (not field or item["metadata"]["name"] == wanted)
