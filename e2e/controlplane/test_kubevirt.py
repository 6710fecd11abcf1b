"""KubeVirt's own virt-controller turns a VM into a launcher pod, and shows that it waits for a GPU."""

import pytest

from e2e.controlplane.kubevirt import (
    NODE_LABELS,
    NODE_RESOURCES,
    KubeVirt,
    launcher_pod,
    virtual_machine,
)
from e2e.fixtures import PERMITTED_DEVICES

pytestmark = pytest.mark.integration
A10 = next(iter(PERMITTED_DEVICES.values()))


def test_a_vm_waits_for_its_gpu_and_starts_when_a_node_has_one(kubevirt: KubeVirt) -> None:
    plane = kubevirt.plane
    plane.ensure_namespace("desktops")
    machine = "/apis/kubevirt.io/v1/namespaces/desktops/virtualmachines/jane"
    plane.apply(virtual_machine("jane", "desktops", [A10]))
    try:
        plane.wait_for(
            "the VM to say that it cannot be placed",
            lambda: plane.api.get(machine).get("status", {}).get("printableStatus") == "ErrorUnschedulable",
        )
        pod = launcher_pod(plane, "desktops", "jane")
        assert pod is not None
        assert pod["spec"]["containers"][0]["resources"]["limits"][A10] == "1"
        instance = plane.api.get("/apis/kubevirt.io/v1/namespaces/desktops/virtualmachineinstances/jane")
        scheduled = {item["type"]: item for item in instance["status"]["conditions"]}["PodScheduled"]
        assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")

        plane.add_fake_node("vm-n1", labels=NODE_LABELS, resources=NODE_RESOURCES | {A10: "1"})
        path = f"/api/v1/namespaces/desktops/pods/{pod['metadata']['name']}"
        plane.wait_for(
            "the launcher to be bound", lambda: plane.api.get(path)["spec"].get("nodeName") == "vm-n1"
        )
    finally:
        plane.api.delete("/api/v1/namespaces/desktops")
        plane.api.delete("/api/v1/nodes/vm-n1")


def test_a_device_that_is_not_permitted_is_refused_with_kubevirts_reason(kubevirt: KubeVirt) -> None:
    plane = kubevirt.plane
    plane.ensure_namespace("unpermitted")
    plane.apply(virtual_machine("joe", "unpermitted", ["nvidia.com/GH100_H100"]))
    path = "/apis/kubevirt.io/v1/namespaces/unpermitted/virtualmachineinstances/joe"

    def refusal() -> str:
        conditions = plane.api.get(path).get("status", {}).get("conditions", [])
        return next((item["message"] for item in conditions if item["type"] == "Synchronized"), "")

    try:
        assert "not permitted in permittedHostDevices" in plane.wait_for("virt-controller's refusal", refusal)
    finally:
        plane.api.delete("/api/v1/namespaces/unpermitted")
