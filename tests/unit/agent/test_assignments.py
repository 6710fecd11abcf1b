"""Whom the kubelet gave a GPU, by whatever plugin, and what it gave that names none."""

from typing import Any

import pytest

from poolmgr.agent.assignments import Assignments, Names, assign
from poolmgr.agent.podresources import KubeletView, PodName
from poolmgr.domain.identifiers import PciAddress

A, B = PciAddress("0000:3b:00.0"), PciAddress("0000:86:00.0")
UUID = "GPU-3fb5c1a2-1111-2222-3333-0123456789ab"
NAMES = Names({UUID: A, "GPU-b": B}, {"MIG-1": B}, frozenset({A, B}), frozenset({"nvidia.com"}))
NOTEBOOK, OTHER = PodName("ml", "notebook"), PodName("ml", "other")


def given(*devices: str, resource: str = "nvidia.com/gpu", **about: Any) -> Assignments:
    view = KubeletView(True, given_by_others=tuple((NOTEBOOK, resource, device) for device in devices))
    return assign(view, NAMES, **about)


@pytest.mark.parametrize(
    ("device", "gpu"),
    [
        (UUID, A),
        (f"{UUID}::3", A),
        ("MIG-1", B),
        ("MIG-1::0", B),
        (f"MIG-{UUID}/1/0", A),
        ("0000:3b:00.0", A),
        ("00000000:3B:00.0", A),
    ],
)
def test_a_device_names_its_gpu(device: str, gpu: PciAddress) -> None:
    """As NVIDIA's plugin writes it, shared in time or by MIG, and as others do."""
    assert given(device) == Assignments({gpu: (NOTEBOOK,)})


@pytest.mark.parametrize(
    ("resource", "device"),
    [
        ("nvidia.com/gpu", "GPU-99999999-1111-2222-3333-0123456789ab"),
        ("nvidia.com/mig-1g.10gb", "MIG-99999999-1111-2222-3333-0123456789ab"),
        ("example.com/card", "GPU-c"),
        ("nvidia.com/gpu", "nvidia0"),
        ("nvidia.com/gpu", ""),
        ("volcano.sh/vgpu-number", "GPU-c-3"),
    ],
)
def test_one_that_names_no_gpu_of_the_node_may_be_any_that_is_shared(resource: str, device: str) -> None:
    found = given(device, resource=resource)
    assert found.pods == {} and found.any_gpu == ()
    (doubt,) = found.shared_gpus
    assert f"pod ml/notebook the device {device} of {resource}" in doubt.what
    assert "keep such pods off this node" in doubt.remedy


@pytest.mark.parametrize(
    ("resource", "device"),
    [
        ("example.com/nic", "eth0"),
        ("amd.com/gpu", "0000:c1:00.0"),
        ("amd.com/gpu", "card1"),
        ("nvidia.com/gpu", "0000:c1:00.0"),
        ("nvidia.com/rdma", "mlx5_0"),
    ],
    ids=[
        "a network card",
        "another vendor's card",
        "its name for one",
        "a card that is none of ours",
        "InfiniBand",
    ],
)
def test_what_is_no_gpu_of_ours_says_nothing_about_them(resource: str, device: str) -> None:
    assert given(device, resource=resource) == Assignments()


def test_a_gpu_shared_in_time_has_all_its_pods() -> None:
    view = KubeletView(
        True,
        given_by_others=((NOTEBOOK, "nvidia.com/gpu", f"{UUID}::0"), (OTHER, "nvidia.com/gpu", f"{UUID}::1")),
    )
    assert assign(view, NAMES).pods == {A: (NOTEBOOK, OTHER)}


def test_hamis_counters_are_placed_by_its_annotation() -> None:
    """The counter names GPU A, and HAMi may have chosen B."""
    known = Assignments(of_hami=frozenset({NOTEBOOK}))
    assert given(f"{UUID}-7") == known, "the API server has not been asked for the annotation yet"
    assert given(f"{UUID}-7", slices={"GPU-b": ("ml/notebook",)}) == known
    (doubt,) = given(f"{UUID}-7", slices={}).shared_gpus
    assert "HAMi's annotation does not place the pod" in doubt.what


def test_a_slice_of_a_gpu_that_is_not_known_may_be_of_any_shared_one() -> None:
    (doubt,) = given(slices={"GPU-c": ("ml/notebook",)}).shared_gpus
    assert "HAMi has put pod ml/notebook on GPU-c" in doubt.what
    (doubt,) = given(slices={"": ("ml/notebook",)}).shared_gpus
    assert "on a GPU without a UUID" in doubt.what


def test_a_claim_may_be_of_any_gpu_unless_its_driver_gives_none() -> None:
    view = KubeletView(True, claims=((NOTEBOOK, "gpu.nvidia.com"), (NOTEBOOK, "dra.net"), (NOTEBOOK, "mine")))
    (nvidias, mine) = assign(view, NAMES).any_gpu
    assert "a device of gpu.nvidia.com through a ResourceClaim" in nvidias.what
    assert "agent.claimDriversWithoutGPUs" in mine.remedy
    assert (
        assign(view, NAMES, claim_drivers_without_gpus=("gpu.nvidia.com", "dra.net", "mine")) == Assignments()
    )


def test_a_claim_of_which_the_kubelet_says_nothing_may_be_of_any_gpu() -> None:
    view = KubeletView(True, claims=((OTHER, "dra.net"),))
    assert assign(view, NAMES, claimers=frozenset({OTHER})) == Assignments()
    (doubt,) = assign(view, NAMES, claimers=frozenset({OTHER, NOTEBOOK})).any_gpu
    assert "pod ml/notebook uses a ResourceClaim" in doubt.what
    assert "KubeletPodResourcesDynamicResources" in doubt.remedy
