"""A GPU stays while the cluster's objects do not place everybody who has one, from those objects to the plan."""

from typing import Any

import pytest

from tests.unit.cluster.builders import GPU_A, Json, launcher, pod, register, vmi
from tests.unit.cluster.planned import answer_to, host, moved, observed, plan_of

VM_WAITS = (vmi(), launcher())
"""A virtual machine that an idle shared GPU would serve."""
UUID = "GPU-n1-0"


def asks(resource: str, count: int = 1) -> Json:
    """Containers of a pod for another device plugin."""
    amounts = {resource: str(count)}
    return {"containers": [{"name": "main", "resources": {"limits": amounts, "requests": amounts}}]}


def bound(name: str = "notebook", **over: Any) -> Json:
    """Runs on n1; HAMi has not assigned it anything."""
    return pod(name, node="n1", **{"scheduler": "default-scheduler", **over})


def test_the_machine_is_served_where_everybody_is_placed() -> None:
    assert moved(plan_of(host("n1", "s"), *VM_WAITS)) == ["n1/00>p"]


@pytest.mark.parametrize(
    "resource",
    [
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/vgpu",
        "nvidia.com/mig-1g.10gb",
        "volcano.sh/vgpu-number",
    ],
)
def test_a_pod_whose_gpu_is_not_known_keeps_all_shared_ones_of_its_node(resource: str) -> None:
    plan = plan_of(host("n1", "ss"), bound(**asks(resource)), *VM_WAITS)
    assert moved(plan) == []
    assert answer_to(plan, "vm1")[0] == "NoCandidate"
    assert "2 of them CannotTell" in answer_to(plan, "vm1")[1]
    assert "pod ml/notebook has 1 GPU(s) of n1, but it is not known which" in answer_to(plan, "vm1")[1]
    assert moved(plan_of(host("n2", "s"), bound(**asks(resource)), *VM_WAITS)) == ["n2/00>p"]


def test_a_gpu_of_another_vendor_is_none_of_ours() -> None:
    assert moved(plan_of(host("n1", "s"), bound(**asks("huawei.com/Ascend910B3")), *VM_WAITS)) == ["n1/00>p"]


def test_once_the_kubelet_says_which_it_is_the_others_may_go() -> None:
    seen = {0: {"allocatedTo": "uid-ml-notebook"}}
    assert moved(plan_of(host("n1", "ss", devices=seen), bound(**asks("nvidia.com/gpu")), *VM_WAITS)) == [
        "n1/01>p"
    ]


@pytest.mark.parametrize("name", ["nvidia.com/gpu.hami", "example.com/any"])
def test_hamis_annotation_places_a_pod_by_whatever_name_it_asks(name: str) -> None:
    """HAMi's resources may have been renamed since it started."""
    placed = bound(annotations={"hami.io/vgpu-devices-allocated": f"{UUID},NVIDIA,3000,30:;"}, **asks(name))
    (found,) = observed(host("n1", "ss"), placed).pods
    assert [(part.uuid, part.memory_mib) for part in found.slices] == [(UUID, 3000)]
    assert moved(plan_of(host("n1", "ss"), placed, *VM_WAITS)) == ["n1/01>p"]


def test_hamis_annotation_on_a_pod_that_asks_for_no_device_is_not_hamis() -> None:
    """Anybody can write it, and nobody can change what a pod asks for once it is there."""
    forged = {"hami.io/vgpu-devices-allocated": f"{UUID},NVIDIA,3000,30:;"}
    placed = bound(annotations=forged, containers=[{"name": "main"}])
    assert observed(host("n1", "ss"), placed).pods == ()


@pytest.mark.parametrize("uuid", ["", "GPU-of-another-card"])
def test_a_gpu_whose_uuid_is_not_hamis_stays(uuid: str) -> None:
    shown = host("n1", "s", devices={0: {"uuid": uuid}}, register=register(UUID))
    assert moved(plan_of(shown, *VM_WAITS)) == []


def test_a_registration_that_cannot_be_read_keeps_all_shared_gpus_of_the_node() -> None:
    assert moved(plan_of(host("n1", "s", register="[{"), *VM_WAITS)) == []


def test_a_slice_of_a_gpu_that_no_agent_reports_keeps_all_shared_ones_of_the_node() -> None:
    placed = bound(annotations={"hami.io/vgpu-devices-allocated": f"{GPU_A},NVIDIA,3000,30:;"})
    assert moved(plan_of(host("n1", "s"), placed, *VM_WAITS)) == []
    assert moved(plan_of(host("n2", "s"), placed, *VM_WAITS)) == ["n2/00>p"]


def test_two_gpus_of_one_uuid_stay() -> None:
    shown = host("n1", "ss", devices={1: {"uuid": UUID}}, register=register(UUID))
    assert moved(plan_of(shown, *VM_WAITS)) == []


def test_a_gpu_that_a_machine_may_just_have_got_does_not_go_back() -> None:
    running = vmi(node="n1", phase="Scheduled"), launcher(node="n1")
    waits = pod("train", limits={"nvidia.com/gpu": "1"})
    full = bound("full", annotations={"hami.io/vgpu-devices-allocated": f"{UUID},NVIDIA,23028,100:;"})
    plan = plan_of(host("n1", "sp"), running, waits, full)
    assert moved(plan) == []
