"""HAMi's lock on a node, from bind to the end of allocation: an annotation `<RFC3339>,<namespace>,<pod>`."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from e2e.hami.standin.api import Api, ApiError
from e2e.hami.standin.release import Release

Json = dict[str, Any]
LOCK = "hami.io/mutex.lock"
NOT_FOUND = 404
ATTEMPTS = 5
FIRST_PAUSE = 0.1
"""Seconds; doubled with each try."""
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
        _swap(api, node, lambda was: None if was == value else was)
    mine = f"{now().isoformat(timespec='seconds')},{namespace},{name}"
    if _swap(api, node, lambda was: mine if was is None else was) != mine:
        raise Contended(f"node {node} is locked")


def unlock(api: Api, node: str, pod: Json, release: Release) -> None:
    """Gives the lock back if it is the pod's. Raises ApiError."""
    owner = f",{pod['metadata']['namespace']},{pod['metadata']['name']}"

    def given_back(value: str | None) -> str | None:
        if value is None or value.endswith(owner) or (release.bare_lock_is_anyones and "," not in value):
            return None
        log.info("the lock of node %s is not that of pod %s: %s", node, owner[1:], value)
        return value

    _swap(api, node, given_back)


def now() -> datetime:
    return datetime.now().astimezone()


def _path(node: str) -> str:
    return f"/api/v1/nodes/{node}"


def _value(node: Json) -> str | None:
    value: str | None = (node["metadata"].get("annotations") or {}).get(LOCK)
    return value


def _swap(api: Api, node: str, to: Callable[[str | None], str | None]) -> str | None:
    """Writes what `to` makes of the lock as it stands, and answers it. Others write to the node all the time: a write
    that lost to one of them is tried again on a fresh read, as HAMi does. Raises ApiError when the last try fails."""
    attempt = 0
    while True:
        found = api.get(_path(node))
        value = to(_value(found))
        if value == _value(found):
            return value
        patch = {"annotations": {LOCK: value}, "resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            api.merge(_path(node), {"metadata": patch})
        except ApiError:
            attempt += 1
            if attempt == ATTEMPTS:
                raise
            time.sleep(FIRST_PAUSE * 2**attempt)
        else:
            return value


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
