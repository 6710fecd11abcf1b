"""The stand-in launcher takes a GPU as a virtual machine does: through VFIO, in a pod that is not root."""

from e2e.controlplane.kubevirt import LAUNCHER_IMAGE
from e2e.node.builders import pod
from e2e.node.kubelet import KubeNode

NAMESPACE = "launcher-tests"
GPU_ON_A_BUS = "PCI device 1234:1111"
"""How QEMU's monitor calls the emulated GPU."""


def test_a_nested_qemu_finds_the_gpu_on_its_bus(kube_node: KubeNode) -> None:
    guest = kube_node.guest
    address = guest.spec.gpu_addresses[0]
    guest.rebind(address, "vfio-pci")
    group = guest.iommu_group(address)
    guest.run(f"chown 107 /dev/vfio/{group}", check=True)
    kube_node.plane.ensure_namespace(NAMESPACE)
    launcher = pod("launcher", NAMESPACE, image=LAUNCHER_IMAGE, node=kube_node.name)
    container = launcher["spec"]["containers"][0]
    container["env"] = [{"name": "PCI_RESOURCE_NVIDIA_COM_TEST", "value": address}]
    container["securityContext"] = {"privileged": True, "runAsUser": 107}
    kube_node.plane.apply(launcher)
    kube_node.plane.wait_for(
        "the VM shows its bus",
        lambda: GPU_ON_A_BUS in kube_node.pod_log(NAMESPACE, "launcher"),
    )
    holders = guest.run(f"ls -l /proc/*/fd 2>/dev/null | grep -c /dev/vfio/{group}$").out.strip()
    assert int(holders) >= 1, "the VM holds the group open"
    kube_node.plane.kubectl("delete", "pod", "-n", NAMESPACE, "launcher", "--timeout=300s")
    guest.rebind(address, "bochs-drm")
