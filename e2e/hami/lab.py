"""Nodes and pods for the contract's tests of the scheduler, which speak to the extender as kube-scheduler does."""

import contextlib
import itertools
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from e2e.controlplane.client import ApiError, Json
from e2e.controlplane.hami import REGISTER_ANNOTATION, Hami, registered

OURSELVES = "contract-test"
"""A scheduler that nobody runs: webhook and kube-schedulers leave such pods to the test."""
SLICES = "nvidia.com/gpu"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Filtered:
    nodes: list[str]
    failed: dict[str, str]
    error: str


def ask(gpus: int = 1, **amounts: int | str) -> dict[str, str]:
    """Limits: `ask(1, gpumem=3000, gpucores=30)`."""
    limits = {SLICES: str(gpus)} if gpus else {}
    return limits | {f"nvidia.com/{name.replace('_', '-')}": str(amount) for name, amount in amounts.items()}


def container(name: str = "main", limits: Mapping[str, str] | None = None, **fields: Any) -> Json:
    return {"name": name, "image": "none", "resources": {"limits": dict(limits or {})}, **fields}


class Lab:
    """What a test makes is deleted when it ends. Names are unique, so that no test meets another's leftovers."""

    def __init__(self, hami: Hami) -> None:
        self.hami, self.plane, self.api = hami, hami.plane, hami.plane.api
        self.number = next(_numbers)
        self.namespace = f"contract-{self.number}"
        self._nodes: list[str] = []
        self._tls = ssl.create_default_context(cafile=str(hami.plane.authority.path))

    def __enter__(self) -> "Lab":
        self.plane.ensure_namespace(self.namespace)
        return self

    def __exit__(self, *_: object) -> None:
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        for pod in self.api.get(pods)["items"]:
            self.delete_pod(pod["metadata"]["name"])
        for node in self._nodes:
            self.delete_node(node)
        self.api.delete(f"/api/v1/namespaces/{self.namespace}")

    # --- nodes ----------------------------------------------------------------------------------------------

    def uuid(self, name: str) -> str:
        """A GPU's UUID of this test alone."""
        return f"GPU-{self.number}-{name}"

    def gpu(self, name: str, **fields: Any) -> Json:
        """A GPU as the plugin registers it; fields of None are left out."""
        entry = registered(self.uuid(name)) | fields
        return {key: value for key, value in entry.items() if value is not None}

    def bare_node(
        self,
        gpus: Iterable[Json] | None,
        *,
        slices: int | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """A node without a kubelet, with registered GPUs (None: no annotation) and, if not told, ten slices each."""
        name = f"contract-{self.number}-n{len(self._nodes) + 1}"
        gpus = None if gpus is None else list(gpus)
        amount = str(10 * len(gpus or ()) if slices is None else slices)
        amounts = {"cpu": "8", "memory": "32Gi", "pods": "110", SLICES: amount}
        registration = {} if gpus is None else {REGISTER_ANNOTATION: json.dumps(gpus)}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "annotations": {**registration, **(annotations or {})}},
            "status": {"capacity": amounts, "allocatable": amounts},
        }
        self._nodes.append(name)
        self.api.create("/api/v1/nodes", node)
        return name

    def node(self, *gpus: Json, annotations: Mapping[str, str] | None = None) -> str:
        """The same, once the scheduler has it in its view."""
        name = self.bare_node(gpus, annotations=annotations)
        self.hami.wait_until_known(*(gpu["id"] for gpu in gpus))
        return name

    def annotate_node(self, name: str, **annotations: str | None) -> None:
        """`hami.io/<key>` each, `_` for `-`; None removes it."""
        keys = {f"hami.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.api.patch(f"/api/v1/nodes/{name}", {"metadata": {"annotations": keys}})

    def set_slices(self, name: str, slices: int) -> None:
        amounts = {SLICES: str(slices)}
        self.api.patch(
            f"/api/v1/nodes/{name}/status", {"status": {"capacity": amounts, "allocatable": amounts}}
        )

    def annotations_of_node(self, name: str) -> dict[str, str]:
        return dict(self.api.get(f"/api/v1/nodes/{name}")["metadata"].get("annotations") or {})

    def delete_node(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self.api.delete(f"/api/v1/nodes/{name}")

    def look(self) -> None:
        """Makes the scheduler look at all nodes now, and returns when it has: a new node is why it looks. That node
        stays until the test ends, because its going would make the scheduler look once more."""
        self.node(self.gpu(f"probe-{next(_numbers)}"))

    def knows(self, *names: str) -> bool:
        """Whether the scheduler has all these GPUs of the test in its books."""
        page = self.hami.metrics()
        return all(f'"{self.uuid(name)}"' in page for name in names)

    # --- pods -----------------------------------------------------------------------------------------------

    def pod(
        self, name: str, *containers: Json, annotations: Mapping[str, str] | None = None, **spec: Any
    ) -> Json:
        """A pod that the test schedules itself; by default with one container that asks for 1000 MiB of a GPU."""
        return self.api.create(
            f"/api/v1/namespaces/{self.namespace}/pods",
            self.body(name, *containers, annotations=annotations, schedulerName=OURSELVES, **spec),
        )

    def body(
        self, name: str, *containers: Json, annotations: Mapping[str, str] | None = None, **spec: Any
    ) -> Json:
        """The same as an object that is not created."""
        given = list(containers) or [container(limits=ask(1, gpumem=1000, gpucores=10))]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": dict(annotations or {})},
            "spec": {"containers": given, "terminationGracePeriodSeconds": 0, **spec},
        }

    def admitted(
        self, name: str, *containers: Json, labels: Mapping[str, str] | None = None, **spec: Any
    ) -> Json:
        """What the API server would store of such a pod, after all webhooks. Raises ApiError where one denies it."""
        body = self.body(name, *containers, **spec)
        body["metadata"]["labels"] = dict(labels or {})
        return self.api.create(f"/api/v1/namespaces/{self.namespace}/pods", body, dryRun="All")

    def pod_path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"

    def get_pod(self, name: str) -> Json:
        return self.api.get(self.pod_path(name))

    def annotations_of(self, name: str) -> dict[str, str]:
        return dict(self.get_pod(name)["metadata"].get("annotations") or {})

    def delete_pod(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self.api.delete(self.pod_path(name), gracePeriodSeconds=0)

    def assign(self, name: str, node: str) -> None:
        """Gives a pod its node as a scheduler does, without HAMi's bind."""
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        self.api.create(f"{self.pod_path(name)}/binding", {"apiVersion": "v1", "kind": "Binding", **binding})

    def set_phase(self, name: str, phase: str, **status: Any) -> None:
        self.api.patch(f"{self.pod_path(name)}/status", {"status": {"phase": phase, **status}})

    def events_of(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of each."""
        items = self.api.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [(item["reason"], item["message"]) for item in items if item["involvedObject"]["name"] == name]

    # --- the extender ---------------------------------------------------------------------------------------

    def filter(self, pod: Json, *nodes: str) -> Filtered:
        """As kube-scheduler asks, which names the nodes that it would take."""
        return _filtered(self.post("/filter", {"Pod": pod, "NodeNames": list(nodes)}))

    def place(self, name: str, node: str, *containers: Json, **fields: Any) -> str:
        """Creates and filters a pod, which has to fit; answers its assignment."""
        pod = self.pod(name, *containers, **fields)
        filtered = self.filter(pod, node)
        assert filtered.nodes == [node], (filtered, self.events_of(name))
        return self.annotations_of(name)["hami.io/vgpu-devices-allocated"]

    def bind(self, pod: Json, node: str) -> str:
        """Answers the error, empty where it was bound."""
        meta = pod["metadata"]
        arguments = {
            "PodName": meta["name"],
            "PodNamespace": meta["namespace"],
            "PodUID": meta["uid"],
            "Node": node,
        }
        answer = self.post("/bind", arguments)
        return str(answer.get("Error") or answer.get("error") or "")

    def post(self, path: str, body: Json, port: int | None = None) -> Json:
        answer = httpx.post(
            f"https://127.0.0.1:{port or self.hami.extender_port}{path}",
            json=body,
            verify=self._tls,
            timeout=60,
            trust_env=False,
        )
        answer.raise_for_status()
        loaded: Json = answer.json()
        return loaded

    def until(self, what: str, probe: Any, timeout_seconds: float = 60) -> Any:
        return self.plane.wait_for(what, probe, timeout_seconds=timeout_seconds)


def _filtered(answer: Json) -> Filtered:
    lower = {key.lower(): value for key, value in answer.items()}
    items = (lower.get("nodes") or {}).get("items") or []
    names = lower.get("nodenames") or [item["metadata"]["name"] for item in items]
    return Filtered(list(names), dict(lower.get("failednodes") or {}), lower.get("error") or "")
