"""Watches the cluster while the story runs: tells what changes, and keeps what must never be seen."""

import threading
from types import TracebackType

from e2e.controlplane.client import ApiClient, ApiError, Json
from e2e.controlplane.plane import ControlPlane
from e2e.story.narrative import Narrative
from e2e.story.scene import Scene, changes, scene, violations

LOOK_SECONDS = 0.7
_QUIET_NAMESPACES = ("kube-system", "default")


class Onlooker:
    """A thread that looks at the cluster every `LOOK_SECONDS`. `looks` counts, `violations` collects."""

    def __init__(self, plane: ControlPlane, narrative: Narrative) -> None:
        self._api = ApiClient(plane.kubeconfig)
        self._narrative = narrative
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="onlooker", daemon=True)
        self.now = Scene()
        self.looks = 0
        self.violations: list[str] = []

    def __enter__(self) -> "Onlooker":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._api.close()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                seen = self._look()
            except Exception as error:  # noqa: BLE001 - an API server that is away is part of the story
                self._narrative.say("onlooker", f"cannot look: {error}")
                continue
            for who, sentence in changes(self.now, seen):
                self._narrative.say(who, sentence)
            for sentence in violations(self.now, seen):
                if sentence not in self.violations:
                    self._narrative.say("VIOLATION", sentence)
                    self.violations.append(sentence)
            self.now = seen
            self.looks += 1

    def _look(self) -> Scene:
        pods = [
            item
            for item in self._list("/api/v1/pods")
            if item["metadata"]["namespace"] not in _QUIET_NAMESPACES
        ]
        return scene(
            nodes=self._list("/api/v1/nodes"),
            gpu_nodes=self._list("/apis/poolmgr.io/v1alpha1/gpunodes"),
            pods=pods,
            machines=self._list("/apis/kubevirt.io/v1/virtualmachines"),
        )

    def _list(self, path: str) -> list[Json]:
        try:
            items: list[Json] = self._api.get(path)["items"]
        except ApiError as error:
            if error.status in (404, 429):  # its CRD is not installed, or was a moment ago
                return []
            raise
        return items
