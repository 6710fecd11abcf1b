"""HAMi's own scheduler and webhook place vGPU pods on fake nodes, in both releases that are supported."""

import json

import pytest

from e2e.controlplane.client import Json
from e2e.controlplane.hami import REGISTER_ANNOTATION, SCHEDULER_NAME, Hami, registered, settle_allocation

pytestmark = pytest.mark.integration


def _vgpu_pod(name: str, namespace: str, memory_mib: int, **annotations: str) -> Json:
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(memory_mib), "nvidia.com/gpucores": "30"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "none", "resources": {"limits": limits}}]},
    }


def _add_gpu_node(hami: Hami, name: str, uuids: list[str]) -> None:
    entries = [registered(uuid, index=index) for index, uuid in enumerate(uuids)]
    hami.plane.add_fake_node(
        name,
        labels={"gpu": "on"},
        annotations={REGISTER_ANNOTATION: json.dumps(entries)},
        resources={"nvidia.com/gpu": str(10 * len(uuids))},
    )
    hami.wait_until_known(*uuids)


def _check_placement(hami: Hami) -> None:
    plane, namespace = hami.plane, "hami-places"
    plane.ensure_namespace(namespace)
    _add_gpu_node(hami, "hami-n1", ["GPU-1", "GPU-2"])
    try:
        for name, refused in (("first", "GPU-1"), ("second", "GPU-2")):
            pod = _vgpu_pod(name, namespace, 3000, **{"nvidia.com/nouse-gpuuuid": refused})
            plane.apply(pod)
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            plane.wait_for(
                f"{name} to be bound", lambda path=path: plane.api.get(path)["spec"].get("nodeName")
            )
            bound = plane.api.get(path)
            assert bound["spec"]["schedulerName"] == SCHEDULER_NAME
            assert bound["spec"]["nodeName"] == "hami-n1"
            other = {"GPU-1": "GPU-2", "GPU-2": "GPU-1"}[refused]
            assert (
                bound["metadata"]["annotations"]["hami.io/vgpu-devices-allocated"]
                == f"{other},NVIDIA,3000,30:;"
            )
            settle_allocation(plane, namespace, name)
    finally:
        plane.api.delete(f"/api/v1/namespaces/{namespace}")
        plane.api.delete("/api/v1/nodes/hami-n1")


def test_hami_2_10_places_a_vgpu_pod_and_honours_excluded_gpus(hami: Hami) -> None:
    _check_placement(hami)


def test_hami_2_8_places_a_vgpu_pod_and_honours_excluded_gpus(hami_2_8: Hami) -> None:
    _check_placement(hami_2_8)


def test_a_pod_that_no_card_can_hold_stays_pending_with_hamis_reason(hami: Hami) -> None:
    plane, namespace = hami.plane, "hami-too-much"
    plane.ensure_namespace(namespace)
    _add_gpu_node(hami, "hami-n2", ["GPU-3"])
    try:
        plane.apply(_vgpu_pod("greedy", namespace, 99_000))
        path = f"/api/v1/namespaces/{namespace}/events"

        def refusals() -> list[str]:
            return [
                item["message"]
                for item in plane.api.get(path)["items"]
                if item["reason"] == "FilteringFailed"
            ]

        plane.wait_for("HAMi's refusal", refusals)
        assert not plane.api.get(f"/api/v1/namespaces/{namespace}/pods/greedy")["spec"].get("nodeName")
    finally:
        plane.api.delete(f"/api/v1/namespaces/{namespace}")
        plane.api.delete("/api/v1/nodes/hami-n2")
