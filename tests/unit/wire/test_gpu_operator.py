"""What the labels and pods of NVIDIA's GPU operator say of a node, and which of them are somebody else's word."""

from typing import Any

import msgspec
import pytest

from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.reasons import Reason
from poolmgr.wire.gpu_operator import DEPLOY, PAUSABLE, NeighbourPod, neighbour_pod, neighbours_of
from poolmgr.wire.kube_pod import Pod

EXPORTER = DEPLOY + "dcgm-exporter"
CONTAINER = {  # gpu-operator v26.7 on a node that runs containers
    "nvidia.com/gpu.present": "true",
    **{
        DEPLOY + operand: "true"
        for operand in (
            "driver",
            "gpu-feature-discovery",
            "container-toolkit",
            "device-plugin",
            "dcgm",
            "dcgm-exporter",
            "node-status-exporter",
            "operator-validator",
            "client",
            "mig-manager",
        )
    },
}


def seen(labels: dict[str, str], *pods: NeighbourPod, **over: Any) -> Neighbours:
    return neighbours_of("n1", labels, pods, **over)


def pod(**over: Any) -> Pod:
    document = {
        "metadata": {
            "name": "dcgm-x",
            "namespace": "gpu-operator",
            "uid": "uid-dcgm",
            "labels": over.get("labels", {"app": "nvidia-dcgm-exporter"}),
            "ownerReferences": over.get(
                "owners", [{"kind": "DaemonSet", "name": "d", "uid": "d", "controller": True}]
            ),
            **({"deletionTimestamp": "2026-11-22T10:00:00Z"} if over.get("ends") else {}),
        },
        "spec": {
            "nodeName": "n1",
            "nodeSelector": over.get("selector", {EXPORTER: "true"}),
            "containers": [{"name": name} for name in over.get("containers", ["main"])],
        },
        "status": {"phase": "Running", "conditions": over.get("conditions", [])},
    }
    return msgspec.convert(document, Pod)


def test_every_operand_that_runs_may_be_paused_but_for_those_that_hold_nothing() -> None:
    names = [service.name for service in seen(CONTAINER).services]
    assert names == [
        "client",
        "dcgm",
        "dcgm-exporter",
        "device-plugin",
        "gpu-feature-discovery",
        "mig-manager",
        "node-status-exporter",
    ]
    assert seen(CONTAINER).verdict and seen(CONTAINER).installs_driver


@pytest.mark.parametrize(
    "value",
    ["false", "", "True", "paused-for-driver-upgrade", "paused-for-poolmgr_paused-for-driver-upgrade"],
)
def test_a_label_with_any_other_value_is_somebody_elses_word(value: str) -> None:
    assert EXPORTER not in {service.label for service in seen({**CONTAINER, EXPORTER: value}).services}


def test_what_we_paused_shows_as_paused_and_its_pods_are_known() -> None:
    labels = {**CONTAINER, EXPORTER: "paused-for-poolmgr"}
    found = seen(labels, NeighbourPod("uid-1", EXPORTER), NeighbourPod("uid-2", DEPLOY + "dcgm"))
    (service,) = [service for service in found.services if service.label == EXPORTER]
    assert service.paused and service.pods == ("uid-1",)
    assert found.verdict, "our own pause is no reason to stop"
    assert (found.service_of("uid-1"), found.service_of("uid-3"), found.service_of("")) == (EXPORTER, "", "")


def test_the_lever_of_hamis_plugin_is_no_service() -> None:
    client = DEPLOY + "client"
    assert client not in {s.label for s in seen(CONTAINER, lever={client: "true"}).services}


@pytest.mark.parametrize(
    ("labels", "reason", "part"),
    [
        (
            {DEPLOY + "vfio-manager": "true"},
            Reason.GPUS_OF_OTHERS,
            "runs n1 for virtual machines (label nvidia.com/gpu.deploy.vfio-manager)",
        ),
        (
            {DEPLOY + "sandbox-device-plugin": "paused-for-cc-mode-change"},
            Reason.GPUS_OF_OTHERS,
            "for virtual machines",
        ),
        ({DEPLOY + "vgpu-manager": "true"}, Reason.GPUS_OF_OTHERS, "for virtual machines"),
        (
            {"nvidia.com/gpu.workload.config": "vm-vgpu"},
            Reason.GPUS_OF_OTHERS,
            "(label nvidia.com/gpu.workload.config=vm-vgpu)",
        ),
        (
            {DEPLOY + "dra-driver": "true"},
            Reason.GPUS_OF_OTHERS,
            "NVIDIA's DRA driver allocates GPUs of n1 through ResourceClaims",
        ),
        (
            {"nvidia.com/gpu-driver-upgrade-state": "drain-required"},
            Reason.DRIVER_CHANGING,
            "replaces the driver of n1 (state drain-required)",
        ),
        (
            {"nvidia.com/gpu-driver-upgrade-state": "upgrade-failed"},
            Reason.DRIVER_CHANGING,
            "(state upgrade-failed)",
        ),
        (
            {"nvidia.com/gpu-driver-upgrade-state": "a-state-of-next-year"},
            Reason.DRIVER_CHANGING,
            "a-state-of-next-year",
        ),
        (
            {"nvidia.com/mig.config.state": "pending"},
            Reason.DRIVER_CHANGING,
            "the MIG manager changes the GPUs of n1",
        ),
        (
            {DEPLOY + "toolkit": "paused-for-driver-upgrade"},
            Reason.DRIVER_CHANGING,
            "somebody else has paused toolkit on n1",
        ),
        (
            {EXPORTER: "paused-for-poolmgr_paused-for-driver-upgrade"},
            Reason.DRIVER_CHANGING,
            "somebody else has paused dcgm-exporter",
        ),
    ],
)
def test_nodes_that_are_not_poolmgrs_to_move_say_why_and_what_to_do(
    labels: dict[str, str], reason: Reason, part: str
) -> None:
    found = seen({**CONTAINER, **labels})
    assert not found.verdict
    assert found.verdict.reason is reason
    assert part in found.verdict.message
    assert found.lasting is (reason is Reason.GPUS_OF_OTHERS)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"nvidia.com/gpu.workload.config": "container"},
        {"nvidia.com/gpu-driver-upgrade-state": "upgrade-done"},
        {"nvidia.com/gpu-driver-upgrade-state": "upgrade-required"},
        {"nvidia.com/mig.config.state": "success"},
        {DEPLOY + "vfio-manager": "false"},
        {DEPLOY + "driver": "pre-installed"},
    ],
)
def test_all_other_nodes_are(labels: dict[str, str]) -> None:
    assert seen({**CONTAINER, **labels}).verdict


def test_a_driver_of_the_host_is_not_the_operators() -> None:
    assert not seen({**CONTAINER, DEPLOY + "driver": "pre-installed"}).installs_driver
    assert not seen({}).installs_driver


def test_who_holds_upgrades_and_who_wants_them_all_the_same() -> None:
    def holds(value: str | None) -> tuple[bool, bool]:
        found = seen(
            {**CONTAINER, **({"nvidia.com/gpu-driver-upgrade.skip": value} if value is not None else {})}
        )
        return found.upgrades_held, found.upgrades_let

    assert [holds(None), holds("true"), holds("false")] == [(False, False), (True, False), (False, True)]


def test_a_daemon_sets_pod_is_of_the_service_that_it_selects_the_node_by() -> None:
    found = neighbour_pod(pod())
    assert found is not None and (found.uid, found.service, found.driver) == ("uid-dcgm", EXPORTER, "")
    both = neighbour_pod(pod(selector={DEPLOY + "dcgm": "true", EXPORTER: "true", "zone": "a"}))
    assert both is not None and both.service in PAUSABLE


@pytest.mark.parametrize(
    "over",
    [
        {"owners": []},
        {"owners": [{"kind": "ReplicaSet", "name": "r", "uid": "r", "controller": True}]},
        {"owners": [{"kind": "DaemonSet", "name": "d", "uid": "d"}]},
        {"selector": {}},
        {"selector": {DEPLOY + "operator-validator": "true"}},
        {"selector": {DEPLOY + "container-toolkit": "true"}},
        {"selector": {DEPLOY + "driver": "true"}},
        {"selector": {"nvidia.com/gpu.present": "true"}},
    ],
    ids=[
        "bare",
        "replica set",
        "not its controller",
        "no selector",
        "validator",
        "toolkit",
        "driver",
        "present",
    ],
)
def test_a_pod_that_would_not_end_by_a_label_or_must_not_is_no_service(over: dict[str, Any]) -> None:
    assert neighbour_pod(pod(**over)) is None


def test_a_drivers_pod_on_its_way_out_or_in_changes_the_driver() -> None:
    driver = {
        "labels": {"app.kubernetes.io/component": "nvidia-driver"},
        "selector": {DEPLOY + "driver": "true"},
    }
    ready = [{"type": "Initialized", "status": "True"}]
    cases = {
        "runs": (pod(**driver, conditions=ready), ""),
        "ends": (pod(**driver, conditions=ready, ends=True), "gpu-operator/dcgm-x ends"),
        "begins": (
            pod(**driver, conditions=[{"type": "Initialized", "status": "False"}]),
            "gpu-operator/dcgm-x is in its first step",
        ),
        "unknown": (pod(**driver), "gpu-operator/dcgm-x is in its first step"),
    }
    for what, (document, said) in cases.items():
        found = neighbour_pod(document)
        assert found is not None and found.driver == said, what
        verdict = seen(CONTAINER, found).verdict
        assert bool(verdict) is not bool(said), what
        assert said in verdict.message


def test_a_dra_driver_counts_where_it_gives_out_gpus_and_not_for_compute_domains_alone() -> None:
    for labels in (
        {"app": "nvidia-dra-driver-kubelet-plugin"},
        {"nvidia-dra-driver-gpu-component": "kubelet-plugin"},
    ):
        found = neighbour_pod(pod(labels=labels, selector={}, containers=["compute-domains", "gpus"]))
        assert found is not None
        assert seen(CONTAINER, found).verdict.reason is Reason.GPUS_OF_OTHERS
        assert neighbour_pod(pod(labels=labels, selector={}, containers=["compute-domains"])) is None
