"""Admission as users meet it: the chart in a real API server, the webhook a real process, kubectl in between."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.controlplane.plane import CommandFailed, ControlPlane
from e2e.processes import wait_until
from tests.integration.helm.installation import (
    A10_RESOURCE,
    DEVICE,
    MINIMAL_KUBEVIRT,
    Installation,
    installation,
)

pytestmark = pytest.mark.integration
SECOND = DEVICE | {"pciAddress": "0000:00:05.0", "uuid": "GPU-1", "iommuGroup": 2}


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    """Two A10 on one node, both shared, one pool, the webhook at work."""
    if not control_plane.api.exists("/apis/kubevirt.io/v1"):
        control_plane.apply(*MINIMAL_KUBEVIRT)
    control_plane.ensure_namespace("desk")
    control_plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}})
    _say_ready(control_plane, True)
    with installation(
        control_plane, "defaultPool.enabled=true", "defaultPool.spec.rebalance.mode=Automatic"
    ) as it:
        it.report("gpu-1", DEVICE, SECOND)
        it.start_webhook()
        wait_until("the webhook to know the GPUs", lambda: not _admitted(it, pod(gpus=9)))
        yield it
    control_plane.kubectl("delete", "node", "gpu-1")


def _say_ready(control_plane: ControlPlane, ready: bool) -> None:
    """As the kubelet of the node would."""
    condition = {"type": "Ready", "status": str(ready), "reason": "Said", "message": "by this test"}
    control_plane.api.patch(
        "/api/v1/nodes/gpu-1/status", {"status": {"conditions": [condition]}}, kind="strategic"
    )


def pod(
    gpus: int = 0, memory: str = "", name: str = "train", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    limits |= {"nvidia.com/gpumem": memory} if memory else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "desk", "labels": labels or {}},
        "spec": {"containers": [{"name": "main", "image": "busybox", "resources": {"limits": limits}}]},
    }


def machine(*devices: str, kind: str = "VirtualMachine") -> dict[str, Any]:
    gpus = [{"name": f"gpu{index}", "deviceName": name} for index, name in enumerate(devices)]
    inner = {"domain": {"devices": {"gpus": gpus}}}
    spec = {"runStrategy": "Always", "template": {"spec": inner}} if kind == "VirtualMachine" else inner
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": kind,
        "metadata": {"name": "desk-1", "namespace": "desk"},
        "spec": spec,
    }


def apply(release: Installation, new: dict[str, Any]) -> str:
    """What `kubectl apply` prints, warnings too, on a server-side dry run."""
    return release.plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(new))


def stored(release: Installation, new: dict[str, Any]) -> dict[str, Any]:
    """`new` as the API server would store it."""
    return release.plane.api.create("/api/v1/namespaces/desk/pods", new, dryRun="All")


def _admitted(release: Installation, new: dict[str, Any]) -> bool:
    try:
        apply(release, new)
    except CommandFailed:
        return False
    return True


def test_an_impossible_pod_is_refused_with_a_sentence(release: Installation) -> None:
    with pytest.raises(CommandFailed) as refused:
        apply(release, pod(gpus=1, memory="40k"))
    assert (
        "Error from server (MoreMemoryThanAnyCard): " in str(refused.value)
        and 'admission webhook "pods.poolmgr.io" denied the request: Container main requests 40000 MiB on one GPU, '
        "but the largest GPU that the pod accepts, NVIDIA A10, has 23028 MiB. Request less, or several GPUs."
        in str(refused.value)
    )


@pytest.mark.parametrize("kind", ["VirtualMachine", "VirtualMachineInstance"])
def test_an_impossible_machine_is_refused_with_a_sentence(release: Installation, kind: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        apply(release, machine(*[A10_RESOURCE] * 3, kind=kind))
    assert (
        "denied the request: The virtual machine requests 3 nvidia.com/GA102GL_A10 (NVIDIA A10), but no node of "
        "this cluster has more than 2. Request at most 2, or spread the work over several machines."
    ) in str(refused.value)


def test_a_machine_that_must_wait_is_admitted_with_what_happens_next(release: Installation) -> None:
    printed = apply(release, machine(A10_RESOURCE))
    assert "virtualmachine.kubevirt.io/desk-1 created (server dry run)" in printed
    assert (
        "Warning: no NVIDIA A10 is free for VMs right now; poolmgr will convert a shared GPU as soon as one "
        "is idle; its Events say how long that takes here"
    ) in printed
    assert "Warning: follow with `kubectl -n desk get vmi desk-1`" in printed


def test_no_warning_once_a_gpu_is_free_on_a_node_that_is_ready(release: Installation) -> None:
    release.report("gpu-1", DEVICE | {"mode": "Passthrough", "advertised": True}, SECOND)
    try:
        wait_until("silence", lambda: "Warning" not in apply(release, machine(A10_RESOURCE)))
        _say_ready(release.plane, False)
        wait_until("a warning", lambda: "Warning" in apply(release, machine(A10_RESOURCE)))
    finally:
        _say_ready(release.plane, True)
        release.report("gpu-1", DEVICE, SECOND)


def test_an_ordinary_vgpu_pod_is_stored_with_its_dislike_of_lent_nodes_alone(release: Installation) -> None:
    found = stored(release, pod(gpus=1, memory="3k"))
    assert "annotations" not in found["metadata"]
    term = {"matchExpressions": [{"key": "poolmgr.io/best-effort-only", "operator": "DoesNotExist"}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert found["spec"]["affinity"] == {"nodeAffinity": required}


def test_a_best_effort_pod_is_stored_as_it_came(release: Installation) -> None:
    new = pod(gpus=1)
    new["metadata"]["annotations"] = {"poolmgr.io/best-effort": "true"}
    found = stored(release, new)
    assert found["metadata"]["annotations"] == {"poolmgr.io/best-effort": "true"}
    assert "affinity" not in found["spec"]


def test_a_launcher_pod_is_labelled_for_hamis_webhook(release: Installation) -> None:
    new = pod(labels={"kubevirt.io": "virt-launcher"})
    assert stored(release, new)["metadata"]["labels"]["hami.io/webhook"] == "ignore"


def test_a_new_pod_is_kept_off_a_gpu_that_leaves(release: Installation) -> None:
    path = "/apis/poolmgr.io/v1alpha1/gpunodes/gpu-1"
    manager = release.api_as("poolmgr-manager")
    leaving = {"pciAddress": DEVICE["pciAddress"], "mode": "Passthrough", "planId": "p1"}
    manager.patch(path, {"spec": {"devices": [leaving]}})
    try:

        def excluded() -> object:
            return stored(release, pod(gpus=1))["metadata"].get("annotations")

        assert wait_until("the exclusion", excluded) == {
            "nvidia.com/nouse-gpuuuid": "GPU-0",
            "poolmgr.io/excluded-by-poolmgr": "GPU-0",
        }
    finally:
        manager.patch(path, {"spec": {"devices": []}})


def test_a_second_pool_over_the_same_gpus_is_refused(release: Installation) -> None:
    pool = {"apiVersion": "poolmgr.io/v1alpha1", "kind": "GPUPool", "metadata": {"name": "again"}, "spec": {}}
    with pytest.raises(
        CommandFailed, match="2 GPUs on gpu-1 would belong to this pool and to GPUPool default"
    ):
        apply(release, pool)


def test_a_reservation_of_more_than_there_is_is_refused(release: Installation) -> None:
    spec = {"model": "NVIDIA A10", "gpus": 3, "start": "2096-11-22T10:00:00Z", "end": "2096-11-22T12:00:00Z"}
    new = {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUReservation",
        "metadata": {"name": "course", "namespace": "desk"},
        "spec": spec,
    }
    with pytest.raises(
        CommandFailed, match="requests 3 NVIDIA A10 in Passthrough, but the pools allow 2 of 2 in that mode"
    ):
        apply(release, new)


def test_pods_without_gpus_never_reach_the_webhook(release: Installation) -> None:
    assert release.webhook is not None
    before = _reviews(release)
    for index in range(5):
        stored(release, pod(name=f"plain-{index}"))
    assert _reviews(release) == before
    stored(release, pod(gpus=1))
    assert _reviews(release) == before + 1


def _reviews(release: Installation) -> int:
    import httpx

    text = httpx.get(f"https://127.0.0.1:{release.port}/metrics", verify=False, trust_env=False).text
    return int(
        sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("poolmgr_webhook_requests_total") and 'kind="pods"' in line
        )
    )


def test_a_webhook_that_is_down_stops_nobody(release: Installation) -> None:
    assert release.webhook is not None
    release.webhook.kill()
    try:
        for new in (pod(), pod(gpus=1), pod(gpus=99), machine(A10_RESOURCE), machine("nvidia.com/NOPE")):
            assert "created (server dry run)" in apply(release, new)
    finally:
        release.start_webhook()


def test_a_webhook_that_hangs_stops_nobody_for_longer_than_its_timeout(release: Installation) -> None:
    import os
    import signal

    def let_through(namespace_pods: str = "pods") -> float:
        """Requests that the API server has let pass because a webhook did not answer, by its own count."""
        counts = release.plane.api.text("/metrics").splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in counts
            if line.startswith("apiserver_admission_webhook_fail_open_count") and namespace_pods in line
        )

    assert release.webhook is not None
    os.kill(release.webhook.pid, signal.SIGSTOP)
    try:
        before = let_through()
        assert "created (server dry run)" in apply(release, pod())
        assert let_through() == before, "a pod that asks for no GPU is not sent to the webhook"
        assert "created (server dry run)" in apply(release, pod(gpus=1))
        assert let_through() == before + 1, "given up after the timeout, and let pass"
    finally:
        os.kill(release.webhook.pid, signal.SIGCONT)


def test_a_restarted_webhook_goes_on_with_its_certificate(release: Installation) -> None:
    assert release.webhook is not None
    secret = "/api/v1/namespaces/poolmgr-system/secrets/poolmgr-webhook-certificate"
    before = release.plane.api.get(secret)["data"]
    release.webhook.stop()
    release.start_webhook()
    assert release.plane.api.get(secret)["data"] == before


def test_an_upgrade_keeps_certificate_and_trust(release: Installation) -> None:
    secret = "/api/v1/namespaces/poolmgr-system/secrets/poolmgr-webhook-certificate"
    before = release.plane.api.get(secret)["data"]
    release.install("defaultPool.enabled=true", "webhook.timeoutSeconds=2")
    assert release.plane.api.get(secret)["data"] == before
    wait_until("the webhook to be called again", release.called)
