"""A lent node as the real schedulers see it: our webhook and HAMi's, its scheduler, a node of KWOK's."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.controlplane.hami import REGISTER_ANNOTATION, SCHEDULER_NAME, Hami, registered, settle_allocation
from poolmgr.wire.annotations import BEST_EFFORT_ONLY
from tests.integration.helm.installation import DEVICE, Installation, installation

pytestmark = pytest.mark.integration
NODE, NAMESPACE = "lent-1", "lending"
NODE_PATH = f"/api/v1/nodes/{NODE}"


@pytest.fixture
def release(hami: Hami) -> Iterator[Installation]:
    """One lent node with one GPU under HAMi; the webhook at work."""
    plane = hami.plane
    plane.ensure_namespace(NAMESPACE)
    plane.add_fake_node(
        NODE,
        labels={"gpu": "on", "poolmgr-test": NODE, BEST_EFFORT_ONLY: "true"},
        annotations={REGISTER_ANNOTATION: json.dumps([registered("GPU-lent")])},
        resources={"nvidia.com/gpu": "10"},
    )
    try:
        hami.wait_until_known("GPU-lent")
        with installation(plane) as it:
            it.report(NODE, DEVICE | {"uuid": "GPU-lent"})
            it.start_webhook()
            yield it
    finally:
        plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}")
        plane.api.delete(NODE_PATH)


def vgpu_pod(name: str, **annotations: str) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {
            "nodeSelector": {"poolmgr-test": NODE},
            "containers": [{"name": "main", "image": "none", "resources": {"limits": limits}}],
        },
    }


def test_a_lent_node_takes_best_effort_pods_and_the_others_once_it_is_taken_back(
    release: Installation,
) -> None:
    plane = release.plane

    def node_of(pod: str) -> str:
        found: str = plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}")["spec"].get("nodeName", "")
        return found

    def refusals() -> list[str]:
        events = plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
        return [e["message"] for e in events if (e["involvedObject"]["name"], e["reason"]) == waiting]

    waiting = ("ordinary", "FailedScheduling")
    plane.apply(vgpu_pod("ordinary"))
    pod = plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/ordinary")
    assert pod["spec"]["schedulerName"] == SCHEDULER_NAME
    messages = plane.wait_for("the scheduler's refusal", refusals)
    assert "didn't match Pod's node affinity/selector" in messages[0]

    plane.apply(vgpu_pod("evictable", **{"poolmgr.io/best-effort": "true"}))
    assert plane.wait_for("the best-effort pod", lambda: node_of("evictable")) == NODE
    settle_allocation(plane, NAMESPACE, "evictable")
    assert node_of("ordinary") == ""

    # The command of docs/how-to/install.md for a label that was left behind.
    plane.kubectl("label", "nodes", "-l", BEST_EFFORT_ONLY, f"{BEST_EFFORT_ONLY}-")
    assert plane.wait_for("the ordinary pod", lambda: node_of("ordinary")) == NODE
