"""Where a quota has a say, pods wait for the manager's word, and what is over is told or refused."""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import ADMISSION_GATE
from poolmgr.wire.hami.config import HamiConfig
from tests.unit.webhooks.objects import (
    A10_RESOURCE,
    T4,
    T4_RESOURCE,
    Object,
    applied,
    container,
    device,
    fleet,
    gpu_node,
    gpu_pool,
    launcher,
    node,
    pod,
    request,
    small_fleet,
    vm,
    vmi,
)
from webhooks.fleet_view import FleetView
from webhooks.pod import decide_pod
from webhooks.review import Answer
from webhooks.virtual_machine import UnknownResources, decide_virtual_machine

LIMIT = {"namespace": "ml", "maxGPUs": 2}


def of_pod(new: Object, view: FleetView | None) -> Answer:
    return decide_pod(request(new), view, HamiConfig())


def gates(new: Object, view: FleetView | None) -> list[str]:
    """Of the pod as it is stored."""
    stored = applied(of_pod(new, view).patch, new)
    return [gate["name"] for gate in stored["spec"].get("schedulingGates", ())]


def used(view_of: list[Object], used: float, waiting: float = 0.0, **spec: Any) -> FleetView:
    """Two nodes whose pool has a limit of 2 for `ml` and `desktops` each, and what the manager says of them."""
    limits = [LIMIT, {"namespace": "desktops", "maxGPUs": 2}]
    found = gpu_pool(quotas=limits, **spec)
    found["status"] = {
        "quotas": [{"namespace": n["namespace"], "used": used, "waiting": waiting} for n in limits]
    }
    return fleet(*view_of, pools=(found,))


NODES = [gpu_node("n1", device(0), device(1)), gpu_node("n2", device(0, "n2"), device(1, "n2"))]


@pytest.mark.parametrize(
    ("quotas", "gated"),
    [
        ([LIMIT], True),
        ([{"namespace": "other", "maxGPUs": 2}], False),
        ([{"namespace": "other", "weight": 3}], True),
        ([{"namespace": "ml", "weight": 1}], False),
        ([], False),
    ],
    ids=["a limit", "another's limit", "weights of anybody", "an even weight", "none"],
)
def test_a_pod_waits_for_the_managers_word_where_a_limit_or_weights_have_a_say(
    quotas: list[Object], gated: bool
) -> None:
    assert gates(pod(container(gpu=1)), small_fleet(quotas=quotas)) == [ADMISSION_GATE] * gated


def test_the_launcher_of_a_machine_waits_like_any_pod() -> None:
    view = small_fleet(quotas=[{"namespace": "desktops", "maxGPUs": 1}])
    assert gates(launcher(), view) == [ADMISSION_GATE]
    assert gates(launcher("example.com/nic"), view) == []
    assert gates(launcher(namespace="other"), view) == []


def test_a_pod_that_keeps_hamis_webhook_off_is_counted_all_the_same() -> None:
    ignoring = pod(container(gpu=1), labels={"hami.io/webhook": "ignore"})
    assert gates(ignoring, small_fleet(quotas=[LIMIT])) == [ADMISSION_GATE]


def test_gates_of_others_stay_ours_is_set_once_and_a_bound_pod_gets_none() -> None:
    held = pod(container(gpu=1))
    held["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    view = small_fleet(quotas=[LIMIT])
    assert gates(held, view) == ["kueue.x-k8s.io/admission", ADMISSION_GATE]
    assert gates(applied(of_pod(held, view).patch, held), view) == [
        "kueue.x-k8s.io/admission",
        ADMISSION_GATE,
    ]
    bound = pod(container(gpu=1))
    bound["spec"]["nodeName"] = "n1"
    assert gates(bound, view) == []


def test_without_a_view_nothing_waits() -> None:
    assert gates(pod(container(gpu=1)), None) == gates(launcher(), None) == []


def test_where_no_manager_runs_nothing_waits() -> None:
    view = small_fleet(quotas=[LIMIT])
    answer = decide_pod(request(pod(container(gpu=1))), view, HamiConfig(), gates=False)
    assert "schedulingGates" not in applied(answer.patch, pod(container(gpu=1)))["spec"]
    assert decide_pod(request(launcher(namespace="ml")), view, HamiConfig(), gates=False).verdict.ok


def two_pools(**of_t4: Any) -> FleetView:
    """An A10 in zone 1, and a T4 in zone 2 of another pool."""
    return fleet(
        gpu_node("n1", device(0)),
        gpu_node("n2", device(0, "n2", model=T4, resourceName=T4_RESOURCE)),
        pools=(gpu_pool(models=["NVIDIA A10"]), gpu_pool("t4", models=[T4], **of_t4)),
        nodes=(node("n1", {"zone": "1"}), node("n2", {"zone": "2"})),
    )


def test_only_pools_where_the_pod_may_land_have_a_say_in_who_is_next() -> None:
    view = two_pools(quotas=[{"namespace": "other", "weight": 3}])
    selecting = pod(container(gpu=1))
    selecting["spec"]["nodeSelector"] = {"zone": "1"}
    by_type = pod(container(gpu=1), annotations={"nvidia.com/use-gputype": "A10"})
    assert gates(pod(container(gpu=1)), view) == gates(launcher(T4_RESOURCE), view) == [ADMISSION_GATE]
    assert gates(selecting, view) == gates(by_type, view) == gates(launcher(A10_RESOURCE), view) == []


def test_a_namespace_that_is_limited_anywhere_has_every_pod_with_gpus_counted() -> None:
    view = two_pools(quotas=[LIMIT])
    assert gates(launcher(A10_RESOURCE, namespace="ml"), view) == [ADMISSION_GATE]
    assert gates(launcher("example.com/nic", namespace="ml"), view) == []


def test_a_pod_over_the_quota_is_admitted_behind_its_gate_and_told() -> None:
    answer = of_pod(pod(container(gpu=1, gpumem=23028)), used(NODES, 1.5))
    assert (answer.verdict.ok, answer.verdict.reason) == (True, Reason.WILL_WAIT)
    assert answer.warnings == (
        "it would take namespace ml over its quota of 2 GPU(s) in pool a10, of which it holds 1.5: it waits until the "
        "namespace uses less",
    )
    half = of_pod(pod(container(gpu=1, gpumem=11514)), used(NODES, 1.5))
    assert half.warnings == ()


def test_what_waits_to_be_admitted_counts_as_it_came_before() -> None:
    half = pod(container(gpu=1, gpumem=11514))
    assert of_pod(half, used(NODES, 1.0, waiting=1.0)).verdict.reason is Reason.WILL_WAIT


def test_init_containers_count_as_they_run() -> None:
    both = pod(container(gpu=1, gpumem=11514))
    both["spec"]["initContainers"] = [container("init", gpu=1, gpumem=11514)]
    assert of_pod(both, used(NODES, 1.5)).warnings == ()
    both["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    assert of_pod(both, used(NODES, 1.5)).verdict.reason is Reason.WILL_WAIT


def test_whole_gpus_of_an_init_container_are_not_added_to_what_runs_after_it() -> None:
    def asks(**limits: str | int) -> Object:
        asked = container(**limits)
        asked["resources"]["limits"][A10_RESOURCE] = "1"
        return asked

    both = pod(asks(gpu=1, gpumem=3000))
    both["spec"]["initContainers"] = [asks(gpu=1, gpumem=3000)]
    assert of_pod(both, used(NODES, 0.5)).warnings == ()
    assert of_pod(both, used(NODES, 1.0)).verdict.reason is Reason.WILL_WAIT


def test_a_pod_that_names_its_card_counts_in_the_pool_of_that_card_alone() -> None:
    spent = gpu_pool("a", nodeSelector={"matchLabels": {"zone": "a"}}, quotas=[LIMIT])
    spent["status"] = {"quotas": [{"namespace": "ml", "used": 2.0, "waiting": 0.0}]}
    other = gpu_pool("b", nodeSelector={"matchLabels": {"zone": "b"}}, quotas=[LIMIT])
    view = fleet(*NODES, pools=(spent, other), nodes=(node("n1", {"zone": "a"}), node("n2", {"zone": "b"})))

    def names(uuid: str) -> Answer:
        return of_pod(pod(container(gpu=1), annotations={"nvidia.com/use-gpuuuid": uuid}), view)

    assert names("GPU-n2-0").warnings == ()
    assert names("GPU-n1-0").verdict.reason is Reason.WILL_WAIT


@pytest.mark.parametrize("empty", [{"resources": None}, {"resources": {"limits": None}}])
def test_null_in_a_manifest_written_by_hand_hides_nothing(empty: Object) -> None:
    written = pod(container(gpu=1))
    written["spec"]["initContainers"] = [{"name": "init", **empty}]
    written["spec"]["overhead"] = None
    assert of_pod(written, used(NODES, 2.0)).verdict.reason is Reason.WILL_WAIT


def test_a_pool_may_refuse_what_is_over() -> None:
    refusing = used(NODES, 2.0, overQuota="Refuse")
    answer = of_pod(pod(container(gpu=1)), refusing)
    assert (answer.verdict.ok, answer.verdict.reason) == (False, Reason.QUOTA_EXCEEDED)
    assert answer.verdict.message == (
        "It would take namespace ml over its quota of 2 GPU(s) in pool a10, of which it holds 2. GPUPool a10 refuses requests "
        "over a quota: delete a workload, or ask your administrator to raise the quota."
    )


def of_machine(new: Object, view: FleetView) -> Answer:
    return decide_virtual_machine(request(new), view, HamiConfig(), UnknownResources.REFUSE)


@pytest.mark.parametrize("machine", [vm(A10_RESOURCE), vmi(A10_RESOURCE)])
def test_a_machine_over_the_quota_waits_or_is_refused_by_the_pools_choice(machine: Object) -> None:
    waits = of_machine(machine, used(NODES, 2.0))
    assert (waits.verdict.ok, waits.verdict.reason) == (True, Reason.WILL_WAIT)
    assert "it waits until the namespace uses less" in waits.warnings[0]
    refused = of_machine(machine, used(NODES, 2.0, overQuota="Refuse"))
    assert (refused.verdict.ok, refused.verdict.reason) == (False, Reason.QUOTA_EXCEEDED)
    assert of_machine(machine, used(NODES, 1.0, overQuota="Refuse")).verdict.ok


def test_a_machine_that_nobody_starts_yet_is_not_counted() -> None:
    stopped = vm(A10_RESOURCE, run_strategy="Halted")
    assert of_machine(stopped, used(NODES, 2.0, overQuota="Refuse")).verdict.ok


def test_every_kind_that_a_machine_asks_for_counts() -> None:
    both = fleet(
        gpu_node("n1", device(0), device(1, model=T4, resourceName=T4_RESOURCE)),
        pools=(gpu_pool(quotas=[{"namespace": "desktops", "maxGPUs": 1}], overQuota="Refuse"),),
    )
    assert of_machine(vmi(A10_RESOURCE), both).verdict.ok
    assert not of_machine(vmi(A10_RESOURCE, T4_RESOURCE), both).verdict.ok


def test_a_pod_that_no_node_admits_is_told_so() -> None:
    selecting = pod(container(gpu=1))
    selecting["spec"]["nodeSelector"] = {"zone": "9"}
    answer = of_pod(selecting, small_fleet())
    assert (answer.verdict.ok, answer.verdict.reason) == (True, Reason.WILL_WAIT)
    assert answer.warnings == (
        "the pod cannot run on any node that has a GPU for it: its node selector wants zone=9 (2 node(s)); it waits until that "
        "changes, and no GPU is moved for it",
    )
    tainted = fleet(
        *NODES,
        nodes=tuple(node(n, taints=[{"key": "gpu", "effect": "NoSchedule"}]) for n in ("n1", "n2")),
    )
    assert "does not tolerate the taint gpu" in of_pod(pod(container(gpu=1)), tainted).warnings[0]
    tolerating = pod(container(gpu=1))
    tolerating["spec"]["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    assert of_pod(tolerating, tainted).warnings == ()


def test_labels_that_a_move_has_taken_off_a_node_still_count_for_pods() -> None:
    withheld = node("n1")
    withheld["metadata"]["annotations"] = {"poolmgr.io/plugin-labels": '{"gpu":"on"}'}
    selecting = pod(container(gpu=1))
    selecting["spec"]["nodeSelector"] = {"gpu": "on"}
    assert of_pod(selecting, fleet(NODES[0], nodes=(withheld,))).warnings == ()
