"""HAMi's lock on a node, from bind to the end of allocation: an annotation `<RFC3339>,<namespace>,<pod>`."""

import logging
from datetime import datetime, timedelta
from typing import Any

from e2e.hami.standin.api import Api, ApiError
from e2e.hami.standin.release import Release

Json = dict[str, Any]
LOCK = "hami.io/mutex.lock"
NOT_FOUND = 404
log = logging.getLogger(__name__)


class Contended(Exception):
    """Somebody else holds the node."""


def parse(value: str) -> tuple[datetime, str, str]:
    """When, namespace and pod; the latter two are empty in the old form. Raises ValueError."""
    parts = value.split(",")
    if len(parts) not in (1, 3):
        raise ValueError(f"malformed lock annotation: expected 3 parts, got {len(parts)} from {value}")
    taken_at = datetime.fromisoformat(parts[0].replace("Z", "+00:00"))
    if taken_at.tzinfo is None:
        raise ValueError(f"malformed lock annotation: no time zone in {value}")
    namespace, name = parts[1:] or ("", "")
    return taken_at, namespace, name


def lock(api: Api, node: str, pod: Json, timeout: timedelta, release: Release) -> None:
    """Takes the lock for `pod`. Raises Contended, ValueError for an unreadable lock, ApiError."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    found = api.get(_path(node))
    value = _value(found)
    if value is not None:
        taken_at, of_namespace, of_name = parse(value)
        own = (of_namespace, of_name) == (namespace, name)
        if now() - taken_at > timeout:
            log.info("the lock of node %s has expired: %s", node, value)
        elif own and release.own_lock_is_held:
            return
        elif own or not of_name or _exists(api, of_namespace, of_name):
            raise Contended(f"node {node} has been locked within {_go_duration(timeout)}")
        _write(api, found, None)
        found = api.get(_path(node))
        if _value(found) is not None:
            raise Contended(f"node {node} is locked")
    _write(api, found, f"{now().isoformat(timespec='seconds')},{namespace},{name}")


def unlock(api: Api, node: str, pod: Json, release: Release) -> None:
    """Gives the lock back if it is the pod's. Raises ApiError."""
    found = api.get(_path(node))
    value = _value(found)
    if value is None:
        return
    owner = f",{pod['metadata']['namespace']},{pod['metadata']['name']}"
    anyones = release.bare_lock_is_anyones and "," not in value
    if anyones or value.endswith(owner):
        _write(api, found, None)
    else:
        log.info("the lock of node %s is not that of pod %s: %s", node, owner[1:], value)


def now() -> datetime:
    return datetime.now().astimezone()


def _path(node: str) -> str:
    return f"/api/v1/nodes/{node}"


def _value(node: Json) -> str | None:
    value: str | None = (node["metadata"].get("annotations") or {}).get(LOCK)
    return value


def _write(api: Api, node: Json, value: str | None) -> None:
    meta = node["metadata"]
    patch = {"annotations": {LOCK: value}, "resourceVersion": meta["resourceVersion"]}
    api.merge(_path(meta["name"]), {"metadata": patch})


def _exists(api: Api, namespace: str, name: str) -> bool:
    try:
        api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except ApiError as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return True


def _go_duration(span: timedelta) -> str:
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"
