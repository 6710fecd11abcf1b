"""KubeVirt's virt-controller beside the control plane: VirtualMachines become real launcher pods.

virt-handler is not here; what it puts on a node (label `kubevirt.io/schedulable`, the `devices.kubevirt.io/*`
resources) is set by whoever makes the node: `NODE_LABELS` and `NODE_RESOURCES`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.client import Json
from e2e.controlplane.plane import ControlPlane
from e2e.parts import part
from e2e.processes import free_port

NAMESPACE = "kubevirt"
VERSION = "1.8.4"
LAUNCHER_IMAGE = "localhost/virt-launcher:1"

NODE_LABELS = {"kubevirt.io/schedulable": "true"}
"""A launcher pod's node selector; virt-handler sets it."""

NODE_RESOURCES = {
    "devices.kubevirt.io/kvm": "1k",
    "devices.kubevirt.io/tun": "1k",
    "devices.kubevirt.io/vhost-net": "1k",
}
"""What a launcher pod asks for beside its GPU; virt-handler's device plugins advertise 1000 of each."""


class KubeVirt:
    """CRDs, the KubeVirt object and virt-controller (process `virt-controller`)."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self._program = part(f"kubevirt-{VERSION}/virt-controller")
        self._crds = part(f"kubevirt-{VERSION}/crds.yaml")
        self._port = free_port()

    def start(self, permitted: Mapping[str, str]) -> "KubeVirt":
        """`permitted`: PCI selector, as `10de:2236`, → resource name that VMs may ask for."""
        plane = self.plane
        plane.ensure_namespace(NAMESPACE)
        plane.apply(self._crds)
        plane.kubectl(
            "wait",
            "--for=condition=Established",
            "--timeout=300s",
            "crd",
            *_crd_names(self._crds.read_text()),
        )
        self.permit(permitted)
        command: list[str | Path] = [
            self._program,
            f"--kubeconfig={plane.kubeconfig}",
            "--listen=127.0.0.1",
            f"--port={self._port}",
            f"--launcher-image={LAUNCHER_IMAGE}",
        ]
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/virt-controller"
        plane.add_process("virt-controller", command).start(
            lambda: plane.api.get(lease)["spec"].get("holderIdentity"), timeout_seconds=60
        )
        return self

    def permit(self, permitted: Mapping[str, str]) -> None:
        """Replace the list of host devices that VMs may ask for; our own device plugin provides them all."""
        devices = [
            {"pciVendorSelector": selector, "resourceName": resource, "externalResourceProvider": True}
            for selector, resource in permitted.items()
        ]
        self.plane.apply(
            {
                "apiVersion": "kubevirt.io/v1",
                "kind": "KubeVirt",
                "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
                "spec": {"configuration": {"permittedHostDevices": {"pciHostDevices": devices}}},
            }
        )
        # virt-controller reads no configuration from an object that the operator has not taken up.
        path = f"/apis/kubevirt.io/v1/namespaces/{NAMESPACE}/kubevirts/kubevirt/status"
        self.plane.api.patch(path, {"status": {"phase": "Deployed"}})


def virtual_machine(
    name: str, namespace: str, gpus: Iterable[str], *, run_strategy: str = "Always", memory: str = "64Mi"
) -> Json:
    """A VirtualMachine that wants one GPU of each resource name in `gpus`, with no disk or network."""
    devices = [{"name": f"gpu{index}", "deviceName": resource} for index, resource in enumerate(gpus)]
    domain: dict[str, Any] = {"devices": {"gpus": devices} if devices else {}, "memory": {"guest": memory}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "runStrategy": run_strategy,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"domain": domain, "terminationGracePeriodSeconds": 0},
            },
        },
    }


def launcher_pod(plane: ControlPlane, namespace: str, name: str) -> Json | None:
    """The newest launcher pod of a VM that is not being deleted, None while there is none."""
    query = {"labelSelector": f"kubevirt.io=virt-launcher,vm.kubevirt.io/name={name}"}
    pods = plane.api.get(f"/api/v1/namespaces/{namespace}/pods", **query)["items"]
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return max(living, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)


def _crd_names(text: str) -> list[str]:
    return [item["metadata"]["name"] for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]
