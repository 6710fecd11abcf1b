"""Pods reduced to what is used, and shared pods in the planner's words."""

from typing import Any

from poolmgr import wire
from poolmgr.cluster.observe.pods import PodFacts, facts_of
from poolmgr.domain.demand import SharedPod, Slice
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire.hami.config import HamiConfig
from tests.unit.cluster.builders import CREATED_AT, GPU_A, as_pod, as_wire, launcher, plugin_pod

SCHEDULERS = frozenset({"hami-scheduler", "default-scheduler"})


def facts(**over: Any) -> PodFacts | None:
    return facts_of(as_pod(**over), HamiConfig(), SCHEDULERS)


def shared(**over: Any) -> SharedPod:
    found = facts(**over)
    assert found is not None
    assert found.shared is not None
    return found.shared


def test_memory_written_as_3k_is_3000_mib() -> None:
    assert (shared().gpus, shared().memory_mib) == (1, 3000)


def test_pod_that_asks_only_for_memory_gets_hamis_default_count() -> None:
    assert shared(limits={"nvidia.com/gpumem": "500"}).gpus == 1


def test_containers_may_share_a_card() -> None:
    def container(gpu: str, mem: str) -> dict[str, Any]:
        return {"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpu, "nvidia.com/gpumem": mem}}}

    pod = shared(containers=[container("1", "1000"), container("2", "3000")])
    assert (pod.gpus, pod.memory_mib) == (2, 3500)


def test_percentages_never_exceed_a_whole_card() -> None:
    one = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1", "nvidia.com/gpucores": "80"}}}
    assert shared(containers=[one, one]).cores_percent == 100


def test_waiting_pod_waits_since_the_scheduler_said_so() -> None:
    assert shared().waiting_since == CREATED_AT
    assert shared(unschedulable_since="2026-11-22T10:05:00Z").waiting_since == CREATED_AT + 300


def test_bound_pod_holds_its_slices() -> None:
    pod = shared(node="n1", annotations={"hami.io/vgpu-devices-allocated": f"{GPU_A},NVIDIA,3000,0:;"})
    assert not pod.waiting
    assert pod.slices == (Slice(GpuUuid(GPU_A), 3000, 0),)
    assert (pod.waiting_since, pod.started_at) == (None, CREATED_AT)


def test_pod_assigned_but_not_bound_holds_its_slices_too() -> None:
    pod = shared(annotations={"hami.io/vgpu-devices-allocated": f"{GPU_A},NVIDIA,3000,0:;"})
    assert pod.waiting
    assert pod.slices


def test_constraints_of_the_pod_are_read() -> None:
    pod = shared(
        annotations={
            "nvidia.com/use-gputype": "A10, L4",
            "nvidia.com/nouse-gputype": "A100",
            "nvidia.com/use-gpuuuid": GPU_A,
            "nvidia.com/nouse-gpuuuid": "GPU-x,GPU-y",
            "poolmgr.io/best-effort": "true",
        }
    )
    assert pod.models == ("A10", "L4")
    assert pod.excluded_models == ("A100",)
    assert pod.allowed_uuids == (GPU_A,)
    assert pod.excluded_uuids == ("GPU-x", "GPU-y")
    assert pod.best_effort


def test_waiting_for_a_foreign_scheduler_or_a_gate_is_nothing_that_a_gpu_ends() -> None:
    for over in ({"scheduler": "volcano"}, {"spec": {"schedulingGates": [{"name": "kueue"}]}}):
        found = facts(**over)
        assert found is not None
        assert found.shared is not None
        assert not found.shared.servable
    assert shared().servable


def test_pod_that_is_over_occupies_nothing() -> None:
    assert facts(node="n1", phase="Succeeded") is None


def test_terminating_pod_still_holds() -> None:
    assert shared(node="n1", deleted=True).terminating


def test_ordinary_pod_leaves_only_its_share_of_the_node() -> None:
    found = facts(node="n1", limits={})
    assert found is not None
    assert found == PodFacts("ml", "n1", 500, 1024, peer=found.peer)
    assert found.ordinary
    assert facts(limits={}) is None


def test_sidecars_run_beside_and_init_containers_before() -> None:
    def asks(cpu: str, **more: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    found = facts(
        node="n1",
        containers=[asks("1"), asks("1")],
        spec={"initContainers": [asks("5"), asks("1", restartPolicy="Always")], "overhead": {"cpu": "250m"}},
    )
    assert found is not None
    assert found.cpu_milli == 5250


def test_launcher_is_no_shared_pod_even_if_it_asks_for_one() -> None:
    document = launcher(node="n1")
    found = facts_of(as_wire(document, wire.Pod), HamiConfig(), SCHEDULERS)
    assert found is not None
    assert found.shared is None
    assert found.launcher is not None
    assert (found.launcher.vmi_uid, found.launcher.node) == ("uid-vm1", "n1")


def test_placement_is_kept_while_the_plugin_has_not_answered() -> None:
    found = facts(
        node="n1",
        annotations={
            "hami.io/vgpu-node": "n1",
            "hami.io/vgpu-time": "1795341600",
            "hami.io/bind-phase": "allocating",
        },
    )
    assert found is not None
    assert found.placement is not None
    assert (found.placement.node, found.placement.at, found.placement.allocating) == ("n1", CREATED_AT, True)


def test_plugin_pod_that_is_going_is_not_ready() -> None:
    going = facts_of(as_wire(plugin_pod(deleted=True), wire.Pod), HamiConfig(), SCHEDULERS)
    assert going is not None
    assert going.plugin is not None
    assert not going.plugin.ready
