"""What the kubelet says of all device plugins and DRA drivers."""

from poolmgr.agent.podresources import KubeletAnswer, PodName
from poolmgr.domain.identifiers import PciAddress

OURS = "nvidia.com/GA102GL_A10"
NOTEBOOK = PodName("ml", "notebook")


def answer() -> KubeletAnswer:
    """`notebook` was given a passthrough GPU of ours, a GPU of NVIDIA's plugin and a network card."""
    found = KubeletAnswer()
    found.allocatable.devices.add(resource_name=OURS, device_ids=["0000:3b:00.0"])
    found.allocatable.devices.add(resource_name="nvidia.com/gpu", device_ids=["GPU-b"])
    container = found.pods.pod_resources.add(namespace="ml", name="notebook").containers.add(name="main")
    container.devices.add(resource_name=OURS, device_ids=["0000:3b:00.0"])
    container.devices.add(resource_name="nvidia.com/gpu", device_ids=["GPU-b", "GPU-c::1"])
    container.devices.add(resource_name="example.com/nic", device_ids=["eth0"])
    return found


def test_what_is_ours_is_told_apart_from_what_others_gave() -> None:
    view = answer().view([OURS])
    assert view.known
    assert view.listed == {(OURS, PciAddress("0000:3b:00.0"))}
    assert view.given == {(OURS, PciAddress("0000:3b:00.0")): NOTEBOOK}
    assert view.given_by_others == (
        (NOTEBOOK, "nvidia.com/gpu", "GPU-b"),
        (NOTEBOOK, "nvidia.com/gpu", "GPU-c::1"),
        (NOTEBOOK, "example.com/nic", "eth0"),
    )


def test_claims_are_told_by_their_drivers_and_of_old_kubelets_by_their_devices_vendor() -> None:
    found = answer()
    container = found.pods.pod_resources[0].containers[0]
    claim = container.dynamic_resources.add()
    claim.claim_resources.add(driver_name="gpu.nvidia.com").cdi_devices.add(name="k8s.gpu.nvidia.com/claim=1")
    claim.claim_resources.add().cdi_devices.add(name="k8s.gpu.nvidia.com/claim=2")
    container.dynamic_resources.add()
    assert found.view([OURS]).claims == (
        (NOTEBOOK, ""),
        (NOTEBOOK, "gpu.nvidia.com"),
        (NOTEBOOK, "k8s.gpu.nvidia.com"),
    )


def test_a_kubelet_that_does_not_answer_says_nothing() -> None:
    view = KubeletAnswer(error="no socket").view([OURS])
    assert (view.known, view.given, view.error) == (False, {}, "no socket")
