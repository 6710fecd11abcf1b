"""The scheduler extender: filter chooses a node and its GPUs and writes that down, bind locks the node and binds."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from e2e.hami.standin import mig, nodelock
from e2e.hami.standin.api import Api, ApiError
from e2e.hami.standin.asks import app_containers_ask, asks_of
from e2e.hami.standin.books import Books, Held
from e2e.hami.standin.configuration import Configuration
from e2e.hami.standin.devices import (
    ALLOCATED,
    ASSIGNED_AT,
    ASSIGNED_NODE,
    BIND_PHASE,
    BIND_TIME,
    MIG_ALLOCATIONS,
    TO_ALLOCATE,
    encode_shares,
    registered,
)
from e2e.hami.standin.events import (
    BINDING_FAILED,
    BINDING_SUCCEEDED,
    FILTERING_FAILED,
    FILTERING_SUCCEEDED,
    Events,
)
from e2e.hami.standin.fit import GPU_POLICY, Card, Pod
from e2e.hami.standin.placing import Candidate, Placement, collapse, place, written
from e2e.hami.standin.release import Release

Json = dict[str, Any]
Limits = Callable[[str], tuple[int | None, int | None]]
"""Namespace → limits of memory and cores by its quotas."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The flags of the scheduler that placement reads."""

    node_policy: str = "binpack"
    gpu_policy: str = "spread"
    lock_timeout: timedelta = timedelta(minutes=5)


class Extender:
    def __init__(
        self,
        api: Api,
        books: Books,
        lock: threading.RLock,
        config: Configuration,
        settings: Settings,
        events: Events,
        quota_limits: Limits,
        release: Release,
    ) -> None:
        self._api, self._books, self._lock, self._config = api, books, lock, config
        self._settings, self._events, self._limits, self._release = settings, events, quota_limits, release

    # --- filter ---------------------------------------------------------------------------------------------

    def filter(self, arguments: Json) -> Json:
        """Kubernetes' ExtenderArgs → ExtenderFilterResult."""
        arguments = _lower_keys(arguments)
        pod, names = arguments.get("pod"), arguments.get("nodenames") or []
        if not pod:
            return {"Error": "extender args missing pod"}
        asks = asks_of(pod, self._config.nvidia, self._release)
        if not any(asks) and not self._asks_others(pod):
            return {"NodeNames": names}
        if arguments.get("nodes") and self._release.simulates:
            return self._simulate(pod, asks, arguments["nodes"]["items"])
        with self._lock:
            self._books.release(pod["metadata"]["uid"])
            known = self._books.cards()
            candidates = [
                Candidate(name, known[name], self._books.nodes[name].annotations)
                for name in names
                if name in known
            ]
            unknown = {name: "node unregistered" for name in names if name not in known}
            best, fitting, refused = self._place(candidates, asks, pod)
            if best is None:
                return self._refuse(pod, names, unknown, refused)
            slots = written(best.slots, self._release)
            init = len(pod["spec"].get("initContainers") or [])
            held = collapse(slots, init) if self._release.counts_init_containers else slots
            meta = pod["metadata"]
            annotations = self._assignment(best, slots)
            self._books.hold(meta["uid"], Held(meta["namespace"], meta["name"], best.node, held, annotations))
            try:
                self._api.merge(
                    _pod_path(meta["namespace"], meta["name"]),
                    {"metadata": {"annotations": annotations, "labels": {ASSIGNED_NODE: best.node}}},
                )
            except (ApiError, OSError) as error:
                self._books.release(meta["uid"])
                self._events.tell(pod, FILTERING_FAILED, str(error))
                return {"Error": str(error)}
        scores = ",".join(f"{placement.node}:{placement.score:.2f}" for placement in fitting)
        self._events.tell(
            pod,
            FILTERING_SUCCEEDED,
            f"find fit node({best.node}), {len(names) - len(fitting)} nodes not fit, "
            f"{len(fitting)} nodes fit({scores})",
        )
        return {"NodeNames": [best.node]}

    def _asks_others(self, pod: Json) -> bool:
        """Whether another vendor's device is wanted: none is ever placed here, but the pod is not let through."""
        containers = pod["spec"]["containers"]
        limits = [(container.get("resources") or {}).get("limits") or {} for container in containers]
        return any(name in limit for limit in limits for name in self._config.other_counts)

    def _place(
        self, candidates: list[Candidate], asks: list[Any], pod: Json
    ) -> tuple[Placement | None, list[Placement], dict[str, str]]:
        if not any(asks):
            return None, [], {candidate.name: "NodeInsufficientDevice" for candidate in candidates}
        annotations = pod["metadata"].get("annotations") or {}
        namespace = pod["metadata"]["namespace"]
        view = Pod(
            annotations,
            annotations.get(GPU_POLICY, self._settings.gpu_policy),
            self._books.quota_check(namespace, self._limits(namespace)),
        )
        init = len(pod["spec"].get("initContainers") or []) if self._release.counts_init_containers else 0
        return place(candidates, asks, init, view, self._settings.node_policy, self._release)

    def _assignment(self, best: Placement, slots: Any) -> dict[str, str]:
        text = encode_shares(slots)
        annotations = {ASSIGNED_NODE: best.node, ASSIGNED_AT: str(int(time.time()))}
        annotations |= {TO_ALLOCATE: text, ALLOCATED: text}
        return annotations | ({MIG_ALLOCATIONS: mig.encode(best.migs)} if best.migs else {})

    def _refuse(
        self, pod: Json, names: list[str], unknown: Mapping[str, str], refused: Mapping[str, str]
    ) -> Json:
        by_reason: dict[str, list[str]] = {}
        for node, reasons in refused.items():
            for part in reasons.split(", "):
                count, _, reason = part.partition(" ")
                if "/" in count:
                    by_reason.setdefault(reason, []).append(node)
        for reason, nodes in by_reason.items():
            message = f"{len(nodes)} nodes {reason}({','.join(sorted(nodes))})"
            self._events.tell(pod, FILTERING_FAILED, message)
        self._events.tell(pod, FILTERING_FAILED, f"no available node, {len(names)} nodes do not meet")
        reported = refused if self._release.details_refusals else dict.fromkeys(refused, "NodeUnfitPod")
        return {"FailedNodes": {**unknown, **reported}}

    def _simulate(self, pod: Json, asks: list[Any], nodes: list[Json]) -> Json:
        """Answers as if nothing ran on these nodes, and writes nothing."""
        candidates, failed = [], {}
        for node in nodes:
            annotations = node["metadata"].get("annotations") or {}
            gpus = registered(annotations)
            if gpus is None:
                failed[node["metadata"]["name"]] = "node unregistered"
            else:
                cards = [Card(gpu) for gpu in gpus]
                candidates.append(Candidate(node["metadata"]["name"], cards, annotations))
        with self._lock:
            best, _, refused = self._place(candidates, asks, pod)
        failed |= refused
        if best is None:
            return {"FailedNodes": failed}
        chosen = [node for node in nodes if node["metadata"]["name"] == best.node]
        return {"Nodes": {"items": chosen}, "FailedNodes": failed}

    # --- bind -----------------------------------------------------------------------------------------------

    def bind(self, arguments: Json) -> Json:
        """Kubernetes' ExtenderBindingArgs → ExtenderBindingResult."""
        arguments = _lower_keys(arguments)
        namespace, name = arguments["podnamespace"], arguments["podname"]
        node = arguments["node"]
        path = _pod_path(namespace, name)
        try:
            pod = self._api.get(path)
        except (ApiError, OSError) as error:
            with self._lock:
                if self._release.frees_lost_pods:
                    self._books.release(arguments["poduid"])
            return {"Error": str(error)}
        locks = app_containers_ask(pod, self._config.nvidia, self._release)
        try:
            if locks:
                nodelock.lock(self._api, node, pod, self._settings.lock_timeout, self._release)
            phase = {BIND_PHASE: "allocating", BIND_TIME: str(int(time.time()))}
            self._api.merge(path, {"metadata": {"annotations": phase}})
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name, "uid": arguments["poduid"]},
                "target": {"kind": "Node", "name": node},
            }
            self._api.create(f"{path}/binding", binding)
        except (nodelock.Contended, ApiError, OSError, ValueError) as error:
            log.error("bind of %s/%s to %s: %s", namespace, name, node, error)
            if locks:
                self._unlock(node, pod)
            self._events.tell(pod, BINDING_FAILED, str(error))
            return {"Error": str(error)}
        self._events.tell(pod, BINDING_SUCCEEDED, f"Successfully binding node [{node}] to {namespace}/{name}")
        return {"Error": ""}

    def _unlock(self, node: str, pod: Json) -> None:
        try:
            nodelock.unlock(self._api, node, pod, self._release)
        except (ApiError, OSError) as error:
            log.error("the lock of node %s stays: %s", node, error)


def _pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _lower_keys(arguments: Json) -> Json:
    """Go reads keys whatever their case, and callers make use of that (`nodeNames`, `NodeNames`)."""
    return {key.lower(): value for key, value in arguments.items()}
