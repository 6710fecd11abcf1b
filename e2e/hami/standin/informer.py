"""A cache of all objects of one kind, kept by list and watch, that tells what changed."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from e2e.hami.standin.api import Api, ApiError

Json = dict[str, Any]
Handler = Callable[[str, Json], None]
"""Called with ADDED, MODIFIED or DELETED and the object."""
RETRY_SECONDS = 1
log = logging.getLogger(__name__)


class Informer:
    """By (namespace, name). The handler runs in the informer's thread, one call after the other."""

    def __init__(self, api: Api, path: str) -> None:
        self._api, self._path = api, path
        self._handler: Handler = lambda _kind, _item: None
        self._lock = threading.Lock()
        self._objects: dict[tuple[str, str], Json] = {}
        self._listed = threading.Event()

    def start(self, handler: Handler | None = None) -> None:
        """Returns when everything was listed and handled once."""
        self._handler = handler or self._handler
        threading.Thread(target=self._follow, name=f"informer {self._path}", daemon=True).start()
        self._listed.wait()

    def all(self) -> list[Json]:
        with self._lock:
            return list(self._objects.values())

    def get(self, namespace: str, name: str) -> Json | None:
        with self._lock:
            return self._objects.get((namespace, name))

    def _follow(self) -> None:
        version = ""
        while True:
            try:
                version = version or self._list()
                for event in self._api.watch(self._path, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["type"], event["object"])
            except ApiError as error:
                log.warning("watch of %s: %s", self._path, error)
                version = ""
                time.sleep(RETRY_SECONDS)
            except (OSError, ValueError) as error:
                log.warning("watch of %s: %s", self._path, error)
                version = ""
                time.sleep(RETRY_SECONDS)

    def _list(self) -> str:
        answer = self._api.get(self._path)
        found = {_key(item): item for item in answer.get("items") or []}
        for key, gone in [(k, v) for k, v in self._objects.items() if k not in found]:
            log.info("%s/%s is gone", *key)
            self._take("DELETED", gone)
        for key, item in found.items():
            self._take("MODIFIED" if key in self._objects else "ADDED", item)
        self._listed.set()
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def _take(self, kind: str, item: Json) -> None:
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(_key(item), None)
            else:
                self._objects[_key(item)] = item
        self._handler(kind, item)


def _key(item: Json) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
