"""What happens to pods at admission."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import DRAIN_TO, EXCLUDED_BY_US, QUARANTINED_GPUS
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.names import NOUSE_UUID
from tests.unit.webhooks.objects import (
    A10,
    applied,
    container,
    device,
    fleet,
    gpu_node,
    gpu_pool,
    node,
    pod,
    request,
)
from tests.unit.webhooks.objects import small_fleet as two_by_two
from webhooks.fleet_view import FleetView
from webhooks.pod import decide_pod
from webhooks.review import Answer
from webhooks.virtual_machine import UnknownResources


def decide(new: dict[str, Any], view: FleetView | None) -> Answer:
    return decide_pod(request(new), view, HamiConfig())


def patched(new: dict[str, Any], answer: Answer) -> dict[str, Any]:
    return applied(answer.patch, new)


def patched_metadata(answer: Answer) -> list[str]:
    """What the answer changes beside the node affinity that keeps off lent nodes (see test_lent_nodes)."""
    return [
        operation["path"] for operation in answer.patch if not operation["path"].startswith("/spec/affinity")
    ]


def leaving_fleet() -> FleetView:
    """GPU-n1-0 is being moved to Passthrough; GPU-n1-1 and those of n2 stay shared."""
    return fleet(
        gpu_node("n1", device(0), device(1), moving={0: "Passthrough"}),
        gpu_node("n2", device(0, "n2"), device(1, "n2")),
        pools=(gpu_pool(),),
    )


REFUSALS = [
    (
        pod(container(gpu=1), annotations={"nvidia.com/use-gputype": "A100"}),
        Reason.UNKNOWN_RESOURCE,
        'No GPU of this cluster matches the pod\'s annotation nvidia.com/use-gputype "A100". '
        "It has: NVIDIA A10.",
    ),
    (
        pod(container(gpu=1), annotations={"nvidia.com/use-gpuuuid": "GPU-nope"}),
        Reason.UNKNOWN_RESOURCE,
        "The annotation nvidia.com/use-gpuuuid allows only GPU-nope, and no GPU of this cluster has that UUID. "
        "`kubectl get gpunodes -o yaml` lists the UUIDs.",
    ),
    (
        pod(container("main", gpu=3)),
        Reason.MORE_THAN_ANY_NODE,
        "Container main requests slices of 3 GPUs, but no node of this cluster has more than 2 that the pod "
        "accepts. Request fewer, or spread the work over several pods.",
    ),
    (
        pod(container("main", gpu=1, gpumem="40k")),
        Reason.MORE_MEMORY_THAN_ANY_CARD,
        "Container main requests 40000 MiB on one GPU, but the largest GPU that the pod accepts, NVIDIA A10, "
        "has 23028 MiB. Request less, or several GPUs.",
    ),
    (
        pod(container("main", gpu=1, gpumem_percentage=150)),
        Reason.INVALID_REQUEST,
        "Container main requests nvidia.com/gpumem-percentage: 150, but this is a percentage of one GPU: "
        "give a value from 1 to 100.",
    ),
    (
        pod(container("main", gpu=1, gpucores=200)),
        Reason.INVALID_REQUEST,
        "Container main requests nvidia.com/gpucores: 200, but this is a percentage of one GPU: "
        "give a value from 1 to 100.",
    ),
    (
        pod(
            container(gpu=1),
            annotations={
                "nvidia.com/use-gpuuuid": "GPU-n1-0",
                "nvidia.com/nouse-gpuuuid": "GPU-n1-0, GPU-n1-1",
            },
        ),
        Reason.INVALID_REQUEST,
        "The annotations nvidia.com/use-gpuuuid and nvidia.com/nouse-gpuuuid name the same GPU (GPU-n1-0), "
        "so no GPU is left: remove it from one of them.",
    ),
    (
        pod(
            container(gpu=1),
            annotations={"nvidia.com/use-gputype": "A10", "nvidia.com/nouse-gputype": "a10"},
        ),
        Reason.INVALID_REQUEST,
        "The annotation nvidia.com/nouse-gputype excludes everything that nvidia.com/use-gputype allows (A10): "
        "change one of them.",
    ),
    (
        pod(container("main", gpu=2), annotations={"nvidia.com/use-gpuuuid": "GPU-n1-0"}),
        Reason.INVALID_REQUEST,
        "Container main requests slices of 2 GPUs, but the annotation nvidia.com/use-gpuuuid names only 1: "
        "name more, or request fewer.",
    ),
]


@pytest.mark.parametrize(("new", "reason", "sentence"), REFUSALS)
def test_refuses_what_can_never_be_met_and_says_why(
    new: dict[str, Any], reason: Reason, sentence: str
) -> None:
    verdict = decide(new, two_by_two()).verdict
    assert (verdict.ok, verdict.reason, verdict.message) == (False, reason, sentence)


def test_refuses_more_gpus_than_the_pools_let_containers_have() -> None:
    verdict = decide(pod(container("main", gpu=2)), two_by_two(shared={"max": 1})).verdict
    assert verdict.reason is Reason.AT_MAXIMUM
    assert verdict.message == (
        "Container main requests slices of 2 GPUs, but the pools' limits (shared.max) allow containers 1 of "
        "the GPUs that it accepts: GPUPool a10. Request fewer, or ask your administrator to raise the limit."
    )


def test_init_containers_count_too() -> None:
    new = pod(container("main", gpu=1))
    new["spec"]["initContainers"] = [container("warm-up", gpu=9)]
    assert "Container warm-up requests slices of 9 GPUs" in decide(new, two_by_two()).verdict.message


@pytest.mark.parametrize(
    "limits",
    [
        {"gpu": 1},
        {"gpu": 2, "gpumem": 3000},
        {"gpumem": "3k"},
        {"gpu": 1, "gpumem": 23028},
        {"gpu": 1, "gpumem_percentage": 100, "gpucores": 100},
    ],
)
def test_admits_what_fits_with_its_annotations_unchanged(limits: dict[str, str | int]) -> None:
    answer = decide(pod(container(**limits)), two_by_two())
    assert answer.verdict.ok
    assert (patched_metadata(answer), answer.warnings) == ([], ())


def test_containers_may_share_a_card_so_their_gpus_are_not_added_up() -> None:
    assert decide(pod(container("a", gpu=2), container("b", gpu=2)), two_by_two()).verdict.ok


def test_cards_of_several_models_on_one_node_count_together() -> None:
    view = fleet(gpu_node("n1", device(0), device(1, model="Tesla T4", memoryMiB=15360)))
    assert decide(pod(container(gpu=2)), view).verdict.ok
    assert not decide(pod(container(gpu=2), annotations={"nvidia.com/use-gputype": "T4"}), view).verdict.ok


def test_oversubscribed_memory_counts_as_hami_offers_it() -> None:
    new = request(pod(container(gpu=1, gpumem=40000)))
    assert decide_pod(new, two_by_two(), HamiConfig(memory_scaling=2.0)).verdict.ok


def test_a_node_without_agent_means_that_nothing_is_impossible() -> None:
    view = fleet(
        gpu_node("n1", device(0)),
        nodes=(node("n1"), node("elsewhere", capacity={"nvidia.com/gpu": "80"})),
    )
    assert decide(pod(container(gpu=8, gpumem=80000)), view).verdict.ok


def test_without_a_view_everything_passes_but_plain_contradictions() -> None:
    assert decide(pod(container(gpu=99)), None).verdict.reason is Reason.FLEET_UNKNOWN
    assert not decide(pod(container(gpu=1, gpucores=101)), None).verdict.ok


def test_a_leaving_gpu_is_excluded_and_recorded() -> None:
    new = pod(container(gpu=1))
    answer = decide(new, leaving_fleet())
    assert answer.verdict.reason is Reason.GPU_LEAVING
    assert patched(new, answer)["metadata"]["annotations"] == {
        NOUSE_UUID: "GPU-n1-0",
        EXCLUDED_BY_US: "GPU-n1-0",
    }


def test_the_users_own_exclusions_stay_first() -> None:
    new = pod(container(gpu=1), annotations={NOUSE_UUID: "GPU-n2-0, GPU-n2-1", "mine": "kept"})
    annotations = patched(new, decide(new, leaving_fleet()))["metadata"]["annotations"]
    assert annotations == {
        NOUSE_UUID: "GPU-n2-0, GPU-n2-1,GPU-n1-0",
        EXCLUDED_BY_US: "GPU-n1-0",
        "mine": "kept",
    }


def test_what_the_user_excluded_already_is_not_recorded_as_ours() -> None:
    new = pod(container(gpu=1), annotations={NOUSE_UUID: "GPU-n1-0"})
    assert patched_metadata(decide(new, leaving_fleet())) == []


def test_a_second_invocation_changes_nothing() -> None:
    new = pod(container(gpu=1), annotations={})
    once = patched(new, decide(new, leaving_fleet()))
    assert decide(once, leaving_fleet()).patch == ()


def test_a_gpu_that_has_arrived_in_passthrough_is_not_named_in_pods() -> None:
    view = fleet(gpu_node("n1", device(0, mode="Passthrough"), device(1)))
    assert patched_metadata(decide(pod(container(gpu=1)), view)) == []


@pytest.mark.parametrize("view", [None, two_by_two(), leaving_fleet()])
def test_an_ordinary_pod_is_kept_off_lent_nodes_whatever_is_known_and_without_a_word(
    view: FleetView | None,
) -> None:
    new = pod(container(gpu=1))
    answer = decide(new, view)
    term = {"matchExpressions": [{"key": "poolmgr.io/best-effort-only", "operator": "DoesNotExist"}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert patched(new, answer)["spec"]["affinity"] == {"nodeAffinity": required}
    assert answer.warnings == ()
    assert decide(patched(new, answer), view).patch == ()


def test_a_best_effort_pod_is_kept_off_leaving_gpus_only() -> None:
    new = pod(container(gpu=1), annotations={"poolmgr.io/best-effort": "true"})
    assert decide(new, two_by_two()).patch == ()
    assert decide(new, None).patch == ()
    after = patched(new, decide(new, leaving_fleet()))
    assert after["metadata"]["annotations"][EXCLUDED_BY_US] == "GPU-n1-0"
    assert "affinity" not in after["spec"]


def test_a_gpu_still_attaching_is_excluded() -> None:
    view = fleet(gpu_node("n1", device(0, mode="Passthrough"), device(1), moving={0: "Passthrough"}))
    assert view.closed_to_pods == view.leaving == {"GPU-n1-0"}


def test_warns_a_pod_that_waits_for_a_gpu_to_come_back() -> None:
    view = fleet(gpu_node("n1", device(0, mode="Passthrough")), pools=(gpu_pool(),))
    answer = decide(pod(container(gpu=1)), view)
    assert answer.verdict.reason is Reason.WILL_WAIT
    assert answer.warnings == (
        f"no {A10} serves containers right now; the pod will wait until poolmgr can convert one that no "
        "virtual machine uses",
    )


def test_warns_a_pod_pinned_to_a_leaving_gpu() -> None:
    new = pod(container(gpu=1), annotations={"nvidia.com/use-gpuuuid": "GPU-n1-0"})
    (warning,) = decide(new, leaving_fleet()).warnings
    assert warning.startswith("GPU-n1-0, the only GPU that nvidia.com/use-gpuuuid allows, is being moved")


def test_a_pod_pinned_to_a_gpu_that_an_operator_closes_is_not_told_of_a_move() -> None:
    for annotation in ({QUARANTINED_GPUS: "0000:00:00.0"}, {DRAIN_TO: "Passthrough"}):
        closed = gpu_node("n1", device(0), device(1))
        closed["metadata"]["annotations"] = annotation
        view = fleet(closed, pools=(gpu_pool(),))
        assert "GPU-n1-0" in view.closed_to_pods and not view.leaving
        new = pod(container(gpu=1), annotations={"nvidia.com/use-gpuuuid": "GPU-n1-0"})
        answer = decide(new, view)
        assert "GPU-n1-0" in patched(new, answer)["metadata"]["annotations"][NOUSE_UUID]
        warning = answer.warnings[0]
        assert "allows, is closed to new pods: the pod will wait until that ends" in warning
        assert "moved" not in warning


@pytest.mark.parametrize("view", [None, two_by_two()])
def test_launcher_pods_are_kept_out_of_hamis_webhook(view: FleetView | None) -> None:
    new = pod(container(GA102GL_A10=1), labels={"kubevirt.io": "virt-launcher"})
    answer = decide(new, view)
    assert patched(new, answer)["metadata"]["labels"] == {
        "kubevirt.io": "virt-launcher",
        "hami.io/webhook": "ignore",
    }
    assert decide(patched(new, answer), view).patch == ()


def test_pods_that_opted_out_of_hami_are_left_alone() -> None:
    new = pod(container(gpu=99), labels={"hami.io/webhook": "ignore"})
    assert decide(new, leaving_fleet()) == decide(pod(), leaving_fleet())


def test_a_value_that_is_no_quantity_is_left_to_the_api_server() -> None:
    assert decide(pod(container(gpu="many")), two_by_two()).verdict.ok


def test_renamed_resources_are_honoured() -> None:
    new = request(pod(container(vgpu=9)))
    assert not decide_pod(new, two_by_two(), HamiConfig(count="nvidia.com/vgpu")).verdict.ok


plain_names = st.sampled_from(
    ["cpu", "memory", "example.com/fpga", "nvidia.com/GA102GL_A10", "ephemeral-storage"]
)
words = st.text("abcdefgh-./0123456789", max_size=12)
plain_pods = st.builds(
    lambda limits, labels, annotations, extra: {
        "metadata": {"labels": labels, "annotations": annotations, **extra},
        "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}, {"name": "bare"}]},
    },
    st.dictionaries(plain_names, st.sampled_from(["1", "500m", "2Gi", "3k"]), max_size=4),
    st.dictionaries(words, words, max_size=3),
    st.dictionaries(st.one_of(words, st.just(NOUSE_UUID)), words, max_size=3),
    st.dictionaries(st.sampled_from(["name", "generateName"]), words, max_size=2),
)


@given(plain_pods)
def test_a_pod_without_slices_is_never_changed_refused_or_warned(new: dict[str, Any]) -> None:
    before = json.dumps(new, sort_keys=True)
    for view in (leaving_fleet(), None):
        answer = decide(new, view)
        assert answer.verdict.ok
        assert (answer.patch, answer.warnings) == ((), ())
    assert json.dumps(new, sort_keys=True) == before


uuids = st.lists(st.sampled_from([f"GPU-n{n}-{g}" for n in (1, 2, 3) for g in range(4)]), unique=True)


@given(uuids, uuids, st.sampled_from([",", ", ", " ,"]))
def test_merging_keeps_the_users_uuids_and_adds_each_leaving_one_once(
    own: list[str], leaving: list[str], separator: str
) -> None:
    gone = {int(u[-1]) for u in leaving if u.startswith("GPU-n1-")}
    view = fleet(
        gpu_node("n1", *(device(i) for i in range(4)), moving=dict.fromkeys(sorted(gone), "Passthrough"))
    )
    new = pod(container(gpu=1), annotations={NOUSE_UUID: separator.join(own)} if own else None)
    answer = decide(new, view)
    annotations = patched(new, answer)["metadata"].get("annotations", {})
    merged = [u.strip() for u in annotations.get(NOUSE_UUID, "").split(",") if u.strip()]
    assert merged[: len(own)] == own
    assert len(merged) == len(set(merged))
    assert set(merged) == set(own) | {f"GPU-n1-{i}" for i in gone}
    recorded = {u for u in annotations.get(EXCLUDED_BY_US, "").split(",") if u}
    assert recorded == {f"GPU-n1-{i}" for i in gone} - set(own)


@pytest.mark.parametrize(
    "new",
    [
        pod(container(gpu=4)),
        pod(container(gpu=1, gpumem=40_000)),
        pod(container(gpu=1), annotations={"nvidia.com/use-gputype": "A100"}),
    ],
)
def test_what_a_new_node_could_serve_is_a_warning_where_nodes_come_on_demand(new: dict[str, Any]) -> None:
    """No pending pod, no new node."""
    assert not decide(new, two_by_two()).verdict.ok
    answer = decide_pod(request(new), two_by_two(), HamiConfig(), UnknownResources.WARN)
    assert (answer.verdict.ok, len(answer.warnings)) == (True, 1)


def test_a_pools_limit_is_no_matter_of_nodes() -> None:
    new = pod(container(gpu=1))
    assert not decide_pod(
        request(new), two_by_two(shared={"max": 0}), HamiConfig(), UnknownResources.WARN
    ).verdict.ok


def test_no_gpu_of_machines_is_promised_to_a_pod_that_nobody_would_move() -> None:
    stays = {"possible": False, "reason": "CannotTell", "message": "the kubelet does not answer"}
    for rebind, until in (
        ({"possible": True}, "until poolmgr can convert one that no virtual machine uses"),
        (
            stays,
            "stay where they are for now: it cannot be told whether they are in use. The pod will wait until that is over "
            "(`kubectl get gpunodes -o yaml` says more)",
        ),
    ):
        view = fleet(gpu_node("n1", device(0, mode="Passthrough", rebind=rebind)), pools=(gpu_pool(),))
        (warning,) = decide(pod(container(gpu=1)), view).warnings
        assert warning.endswith(until)
