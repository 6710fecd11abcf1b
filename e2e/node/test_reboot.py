"""A reboot: bindings are forgotten, the disk is not, and the node comes back into the cluster by itself.

Last in this folder by its name: the one test that costs a second boot.
"""

from e2e.node.builders import pod
from e2e.node.kubelet import KubeNode

NAMESPACE = "reboot-tests"
JOURNAL = "/var/lib/poolmgr/journal-of-the-reboot-test"


def test_after_a_power_cut_disk_and_node_are_back_and_bindings_are_not(kube_node: KubeNode) -> None:
    guest = kube_node.guest
    address = guest.spec.gpu_addresses[0]
    kube_node.plane.ensure_namespace(NAMESPACE)
    kube_node.plane.apply(pod("stays", NAMESPACE))
    kube_node.wait_for_pod(NAMESPACE, "stays")
    guest.run(f"echo intent | dd of={JOURNAL} conv=fsync 2>/dev/null", check=True)
    guest.run("touch /etc/forgotten", check=True)
    guest.rebind(address, "vfio-pci")
    before = guest.boot_id()

    after = guest.reboot(power_cut=True)

    assert after != before
    assert kube_node.ready(), "the kubelet has reported Ready from the new boot"
    assert guest.get(JOURNAL) == "intent\n"
    assert guest.run(["test", "-e", "/etc/forgotten"]).rc != 0
    assert guest.driver(address) == "bochs-drm", "driver_override lives in memory only"
    kube_node.plane.wait_for(
        "the pod to have been started again",
        lambda: _restarts(kube_node, "stays") == 1,
    )
    kube_node.plane.kubectl("delete", "pod", "-n", NAMESPACE, "stays", "--timeout=300s")
    guest.run(f"rm {JOURNAL}")


def _restarts(node: KubeNode, name: str) -> int:
    found = node.plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")["status"]
    running = found.get("phase") == "Running" and found["containerStatuses"][0]["ready"]
    return int(found["containerStatuses"][0]["restartCount"]) if running else -1
