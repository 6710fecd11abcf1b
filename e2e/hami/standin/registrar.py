"""The scheduler's look at all nodes: what it takes in, what it lets go, and what it writes while looking.

It looks every 15 seconds and when a node comes or goes; a node that merely changes does not make it look.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from e2e.hami.standin.api import Api, ApiError
from e2e.hami.standin.books import Books
from e2e.hami.standin.configuration import NvidiaConfiguration
from e2e.hami.standin.devices import HANDSHAKE, REGISTER, registered
from e2e.hami.standin.informer import Informer
from e2e.hami.standin.mig import with_geometries
from e2e.hami.standin.quantity import rounded_up
from e2e.hami.standin.release import Release

Json = dict[str, Any]
TICK_SECONDS = 15
STALE_SECONDS = 60
"""How old a handshake may be before it counts as given up."""
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
"""Local time, without a zone."""
log = logging.getLogger(__name__)


class Registrar:
    """`looked` is set after the first complete look. `after_look` is called, under the lock, at the end of each."""

    def __init__(
        self,
        api: Api,
        nodes: Informer,
        books: Books,
        lock: threading.RLock,
        config: NvidiaConfiguration,
        release: Release,
        *,
        selector: dict[str, str],
        is_leader: Callable[[], bool],
        after_look: Callable[[], None],
    ) -> None:
        self._api, self._nodes, self._books, self._lock = api, nodes, books, lock
        self._config, self._release, self._selector = config, release, selector
        self._is_leader, self._after_look = is_leader, after_look
        self._asked = threading.Event()
        self._slices: dict[str, int] = {}
        self._registrations: dict[str, str | None] = {}
        self.looked = threading.Event()

    def see_node(self, kind: str, node: Json) -> None:
        """A node was added, changed or deleted in the cluster."""
        name = node["metadata"]["name"]
        if kind == "DELETED":
            with self._lock:
                self._books.forget_node(name)
                if self._release.removes_handshake:
                    self._forget_reports(name)
        if kind != "MODIFIED":
            self._asked.set()

    def run(self) -> None:
        """For ever."""
        next_tick = time.monotonic() + TICK_SECONDS
        while True:
            if not self._asked.wait(max(0.0, next_tick - time.monotonic())):
                next_tick += TICK_SECONDS
            self._asked.clear()
            try:
                self.look()
            except OSError as error:
                log.warning("the API server is away: %s", error)

    def look(self) -> None:
        if not self._is_leader():
            return
        with self._lock:
            for node in self._nodes.all():
                labels = node["metadata"].get("labels") or {}
                if all(labels.get(key) == value for key, value in self._selector.items()):
                    self._look_at(node)
            self._after_look()
        self.looked.set()

    def _look_at(self, node: Json) -> None:
        name = node["metadata"]["name"]
        gpus = registered(node["metadata"].get("annotations") or {})
        if gpus is None and not self._release.judges_unregistered_nodes:
            return
        healthy, changed = self._judge(node)
        if not healthy:
            if name in self._books.nodes or not self._release.judges_unregistered_nodes:
                log.error("Device is unhealthy, cleaning up node %s", name)
                self._clean_up(name)
                self._books.forget_node(name)
            return
        if gpus is not None and changed:
            log.info("taking in %s with %s", name, [gpu.uuid for gpu in gpus])
            self._books.take_node(
                node,
                gpus
                if self._release.mig_by_placement
                else with_geometries(gpus, self._config.mig_geometries),
            )

    def _judge(self, node: Json) -> tuple[bool, bool]:
        """Whether the node is healthy, and whether there is reason to take it in anew."""
        name = node["metadata"]["name"]
        annotations = node["metadata"].get("annotations") or {}
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        current = rounded_up(allocatable.get(self._config.count_name, "0"))
        before = self._slices.get(name, 0)
        alive, stamped = (True, False)
        if self._release.heeds_handshake:
            alive, stamped = self._shake_hands(name, annotations.get(HANDSHAKE, ""), current)
        registration = annotations.get(REGISTER)
        if current == 0:
            if before == 0:
                return alive, stamped
            self._slices[name], self._registrations[name] = 0, registration
            return False, stamped
        if current != before:
            self._slices[name], self._registrations[name] = current, registration
            return True, True
        if self._release.notices_registration and self._registrations.get(name) != registration:
            self._registrations[name] = registration
            return alive, True
        return alive, stamped

    def _shake_hands(self, name: str, handshake: str, slices: int) -> tuple[bool, bool]:
        """Whether the handshake is alive, and whether it was stamped just now."""
        if "Requesting" not in handshake:
            self._annotate(name, f"Requesting_{datetime.now().strftime(TIME_FORMAT)}")
            return True, True
        try:
            stamped_at = datetime.strptime(handshake.partition("_")[2], TIME_FORMAT)
        except ValueError:
            return True, False
        fresh = (datetime.now() - stamped_at).total_seconds() < STALE_SECONDS
        return fresh or slices > 0, False

    def _clean_up(self, name: str) -> None:
        if self._release.removes_handshake:
            self._forget_reports(name)
            self._annotate(name, None)
        else:
            self._annotate(name, f"Deleted_{datetime.now().strftime(TIME_FORMAT)}")

    def _annotate(self, name: str, handshake: str | None) -> None:
        try:
            self._api.merge(f"/api/v1/nodes/{name}", {"metadata": {"annotations": {HANDSHAKE: handshake}}})
        except ApiError as error:
            log.error("node %s: %s", name, error)

    def _forget_reports(self, name: str) -> None:
        self._slices.pop(name, None)
        self._registrations.pop(name, None)
