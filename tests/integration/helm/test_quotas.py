"""Quotas that hold in a real API server: pods of a limited namespace wait behind our gate, and only the manager lifts it."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import ControlPlane
from e2e.processes import wait_until
from poolmgr.wire.annotations import ADMISSION_GATE
from tests.integration.helm.installation import A10_RESOURCE, DEVICE, Installation, installation

pytestmark = pytest.mark.integration
LIMITED, FREE = "quota-limited", "quota-free"


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    """A shared A10 on one node, the webhook at work, and a limit of one GPU for one of two namespaces."""
    for namespace in (LIMITED, FREE):
        control_plane.ensure_namespace(namespace)
    control_plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "quota-1"}})
    pool = "defaultPool.spec.quotas[0]"
    with installation(
        control_plane, "defaultPool.enabled=true", f"{pool}.namespace={LIMITED}", f"{pool}.maxGPUs=1"
    ) as it:
        it.report("quota-1", DEVICE)
        it.start_webhook()
        wait_until("the webhook to know of the limit", lambda: gates(stored(it, pod("probe"))))
        yield it
    control_plane.kubectl("delete", "node", "quota-1")
    for namespace in (LIMITED, FREE):
        control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


def pod(name: str, namespace: str = LIMITED, resource: str = "nvidia.com/gpu", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "resources": {"limits": {resource: "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], **spec},
    }


def path(new: dict[str, Any], name: str = "") -> str:
    return f"/api/v1/namespaces/{new['metadata']['namespace']}/pods{f'/{name}' if name else ''}"


def stored(release: Installation, new: dict[str, Any], *, dry: bool = True) -> dict[str, Any]:
    return release.plane.api.create(path(new), new, **({"dryRun": "All"} if dry else {}))


def gates(found: dict[str, Any]) -> list[str]:
    return [gate["name"] for gate in found["spec"].get("schedulingGates", ())]


def lift(uid: str = "") -> dict[str, Any]:
    """The manager's patch."""
    return {"metadata": {"uid": uid} if uid else {}, "spec": {"schedulingGates": None}}


def test_a_pod_of_a_limited_namespace_waits_and_the_manager_alone_lets_it_go(release: Installation) -> None:
    found = stored(release, pod("waits"), dry=False)
    at = path(found, "waits")
    assert gates(found) == [ADMISSION_GATE]
    (condition,) = [c for c in found["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert condition["reason"] == "SchedulingGated"
    with pytest.raises(ApiError, match="is lifted by poolmgr's manager") as denied:
        release.plane.api.patch(at, lift())
    assert denied.value.status == 403
    manager = release.api_as("poolmgr-manager")
    with pytest.raises(ApiError) as other:
        manager.patch(at, lift("another-uid"))
    assert other.value.status == 422
    assert gates(manager.patch(at, lift(found["metadata"]["uid"]))) == []
    assert release.plane.api.patch(at, {"metadata": {"labels": {"team": "a"}}})["metadata"]["labels"]


def test_a_namespace_without_a_limit_and_pods_without_gpus_do_not_wait(release: Installation) -> None:
    assert gates(stored(release, pod("free", FREE))) == []
    assert gates(stored(release, pod("plain", resource="cpu"))) == []


def test_a_whole_gpu_that_only_machines_get_is_not_taken_past_the_quota(release: Installation) -> None:
    release.plane.api.patch(
        "/apis/poolmgr.io/v1alpha1/gpupools/default/status",
        {"status": {"resourceNames": [A10_RESOURCE]}},
    )
    wait_until(
        "the policy to see the pool's names",
        lambda: _refusal(release, pod("whole", resource=A10_RESOURCE)),
    )
    assert "asks for GPUs without the scheduling gate" in _refusal(release, pod("w", resource=A10_RESOURCE))
    assert _refusal(release, pod("w", FREE, A10_RESOURCE)) == ""


def test_while_the_webhook_is_away_nobody_gets_past_a_limit_and_nobody_else_is_stopped(
    release: Installation,
) -> None:
    assert release.webhook is not None
    release.webhook.kill()
    try:
        assert "has a limit in GPUPool default" in _refusal(release, pod("unseen"))
        assert _refusal(release, pod("free", FREE)) == ""
        assert _refusal(release, pod("plain", resource="cpu")) == ""
        assert _refusal(release, pod("bound", nodeName="quota-1")) == "", "HAMi gives such a pod nothing"
    finally:
        release.start_webhook()


def _refusal(release: Installation, new: dict[str, Any]) -> str:
    """What is said to whoever may not create it; empty where it is stored."""
    try:
        stored(release, new)
    except ApiError as error:
        return error.message
    return ""
