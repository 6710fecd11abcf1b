"""Pods for tests on the emulated node."""

from collections.abc import Mapping, Sequence
from typing import Any

from e2e.controlplane.client import Json
from e2e.node.kubelet import WORKLOAD_IMAGE


def pod(
    name: str,
    namespace: str,
    *,
    image: str = WORKLOAD_IMAGE,
    command: Sequence[str] = (),
    limits: Mapping[str, str] | None = None,
    node: str | None = None,
    **spec: Any,
) -> Json:
    """A pod with one container `main`; with `node` it is bound without a scheduler."""
    container: dict[str, Any] = {"name": "main", "image": image, "resources": {"limits": dict(limits or {})}}
    if command:
        container["command"] = list(command)
    body: dict[str, Any] = {"terminationGracePeriodSeconds": 2, "containers": [container], **spec}
    if node:
        body["nodeName"] = node
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}
