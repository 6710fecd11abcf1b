"""The contract's second part: what the webhook does to new pods, asked through the API server."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.controlplane.client import ApiError, Json
from e2e.controlplane.hami import SCHEDULER_NAME, Hami
from e2e.hami.contract import shows
from e2e.hami.json_patch import patched
from e2e.hami.lab import OURSELVES, Lab, ask, container
from e2e.processes import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PRIVILEGED = {"privileged": True}
DEFAULT = "default-scheduler"


def refusal(lab: Lab, *containers: Json, **spec: Any) -> str:
    """Why the API server does not take such a pod."""
    with pytest.raises(ApiError) as refused:
        lab.admitted("refused", *containers, **spec)
    return refused.value.message


def scheduler_of(pod: Json) -> str:
    return str(pod["spec"]["schedulerName"])


def limits_of(pod: Json, number: int = 0) -> dict[str, str]:
    return dict(pod["spec"]["containers"][number]["resources"]["limits"])


def environment_of(pod: Json, number: int = 0) -> dict[str, str]:
    return {item["name"]: item["value"] for item in pod["spec"]["containers"][number].get("env", [])}


@shows(10)
def test_a_gpu_sends_the_pod_to_hamis_scheduler(lab: Lab) -> None:
    assert scheduler_of(lab.admitted("asks")) == SCHEDULER_NAME
    assert scheduler_of(lab.admitted("asks-nothing", container())) == DEFAULT


@shows(11)
def test_another_schedulers_pod_is_left_alone(lab: Lab) -> None:
    whole = container(limits=ask(1))
    assert limits_of(lab.admitted("theirs", whole, schedulerName=OURSELVES)) == ask(1)


@shows(12)
def test_2_10_changes_pods_that_name_its_scheduler(lab: Lab) -> None:
    pod = lab.admitted("ours", container(limits=ask(1)), schedulerName=SCHEDULER_NAME)
    assert limits_of(pod)["nvidia.com/gpucores"] == "100"


@shows(13)
def test_2_8_leaves_pods_alone_that_name_its_scheduler(lab: Lab) -> None:
    pod = lab.admitted("ours", container(limits=ask(1)), schedulerName=SCHEDULER_NAME)
    assert limits_of(pod) == ask(1)


@shows(14)
def test_a_pod_with_a_node_is_denied(lab: Lab) -> None:
    assert "pod has node assigned" in refusal(lab, nodeName="somewhere")


@shows(15)
def test_2_10_denies_a_privileged_container_beside_a_gpu(lab: Lab) -> None:
    helper = container("helper", securityContext=PRIVILEGED)
    assert "container helper is privileged" in refusal(lab, container(limits=ask(1)), helper)
    assert scheduler_of(lab.admitted("harmless", helper)) == DEFAULT


@shows(16)
def test_2_8_passes_over_a_privileged_container(lab: Lab) -> None:
    both = container(limits=ask(1), securityContext=PRIVILEGED)
    alone = lab.admitted("alone", both)
    assert (scheduler_of(alone), limits_of(alone)) == (DEFAULT, ask(1))
    other = lab.admitted("other", both, container("second", ask(1, gpumem=100)))
    assert scheduler_of(other) == SCHEDULER_NAME


@shows(17)
def test_memory_or_cores_alone_mean_one_gpu(lab: Lab) -> None:
    for limits in (ask(0, gpumem=2000), ask(0, gpucores=20), ask(0, gpumem_percentage=50)):
        pod = lab.admitted("no-count", container(limits=limits))
        assert limits_of(pod)["nvidia.com/gpu"] == "1"
        assert scheduler_of(pod) == SCHEDULER_NAME


@shows(18)
def test_a_whole_gpu_means_all_its_cores(lab: Lab) -> None:
    for limits in (ask(1), ask(2, gpumem_percentage=100)):
        assert limits_of(lab.admitted("whole", container(limits=limits)))["nvidia.com/gpucores"] == "100"
    for limits in (ask(1, gpumem=1000), ask(1, gpumem_percentage=99), ask(1, gpucores=30)):
        assert limits_of(lab.admitted("part", container(limits=limits))) == {
            name: str(value) if name != "nvidia.com/gpumem" else "1k" for name, value in limits.items()
        }


@shows(19)
def test_priority_becomes_a_variable(lab: Lab) -> None:
    pod = lab.admitted("low", container(limits=ask(1, gpumem=100, priority=1)))
    assert environment_of(pod) == {"CUDA_TASK_PRIORITY": "1"}


@shows(22)
def test_a_label_keeps_the_webhook_away(lab: Lab) -> None:
    pod = lab.admitted("labelled", labels={"hami.io/webhook": "ignore"})
    assert scheduler_of(pod) == DEFAULT
    labels = {"metadata": {"labels": {"hami.io/webhook": "ignore"}}}
    lab.api.patch(f"/api/v1/namespaces/{lab.namespace}", labels)
    lab.until("the namespace's label to count", lambda: scheduler_of(lab.admitted("x")) == DEFAULT)


@shows(23)
def test_whole_gpus_by_pci_name_are_none_of_its_business(lab: Lab) -> None:
    pod = lab.admitted("vm", container(limits={"nvidia.com/GA102GL_A10": "1"}))
    assert (scheduler_of(pod), limits_of(pod)) == (DEFAULT, {"nvidia.com/GA102GL_A10": "1"})


def limit_memory(lab: Lab, mib: int) -> None:
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {"limits.nvidia.com/gpumem": str(mib)}}}
    lab.api.create(f"/api/v1/namespaces/{lab.namespace}/resourcequotas", quota)


@shows(24)
def test_2_10_denies_what_the_quota_does_not_allow(lab: Lab) -> None:
    limit_memory(lab, 2000)
    too_much = container(limits=ask(1, gpumem=2001))

    def denied() -> bool:
        try:
            lab.admitted("too-much", too_much)
        except ApiError as error:
            return "exceeding resource quota" in error.message
        return False

    lab.until("the quota to be known", denied)
    lab.admitted("enough", container(limits=ask(1, gpumem=2000)))


@shows(25)
def test_2_8_leaves_the_quota_to_its_scheduler(lab: Lab) -> None:
    limit_memory(lab, 2000)
    node = lab.node(lab.gpu("a"))
    too_much = container(limits=ask(1, gpumem=2001))
    lab.until(
        "the quota to be known",
        lambda: not lab.filter(lab.pod("asks", too_much), node).nodes or lab.delete_pod("asks"),
    )
    lab.until("the reason", lambda: "ResourceQuotaNotFit" in str(lab.events_of("asks")))
    lab.admitted("too-much", too_much)


@shows(26)
def test_host_pid_stays(lab: Lab) -> None:
    assert lab.admitted("looks", hostPID=True)["spec"]["hostPID"] is True


@shows(27)
def test_other_vendors_devices_lead_to_the_same_scheduler(lab: Lab) -> None:
    expected = {
        "cambricon.com/vmlu": SCHEDULER_NAME,
        "hygon.com/dcunum": SCHEDULER_NAME,
        "metax-tech.com/sgpu": SCHEDULER_NAME,
        "iluvatar.ai/BI-V150-vgpu": DEFAULT,
        "huawei.com/Ascend910B4": DEFAULT,
    }
    found = {name: scheduler_of(lab.admitted("other", container(limits={name: "1"}))) for name in expected}
    assert found == expected


class Reviews:
    """Another instance of the webhook with another configuration, asked directly."""

    def __init__(self, lab: Lab, port: int) -> None:
        self._stage, self._port = lab, port

    def admit(self, *containers: Json, **spec: Any) -> Json:
        body = self._stage.body("reviewed", *containers, schedulerName=DEFAULT, **spec)
        request = {"uid": "1", "namespace": self._stage.namespace, "operation": "CREATE", "object": body}
        request |= {"kind": {"group": "", "version": "v1", "kind": "Pod"}}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        response = self._stage.post("/webhook", review, self._port)["response"]
        assert response["allowed"], response
        return patched(body, response.get("patch", ""))


@pytest.fixture
def reviews(lab: Lab, standing: Hami) -> Iterator[Reviews]:
    config = yaml.safe_load(standing.device_config())
    config["nvidia"] |= {
        "resourceCountName": "example.com/gpus",
        "resourceMemoryName": "example.com/memory",
        "resourceMemoryPercentageName": "example.com/percentage",
        "resourceCoreName": "example.com/cores",
        "gpuCorePolicy": "force",
        "runtimeClassName": "nvidia",
        "overwriteEnv": True,
    }
    port = free_port()
    process = standing.add_extender("other-webhook", config=yaml.safe_dump(config), port=port)
    process.start(lambda: standing.plane.healthy(port))
    yield Reviews(lab, port)
    process.stop()


@shows(20)
def test_core_policy_and_runtime_class_are_set(reviews: Reviews) -> None:
    pod = reviews.admit(container(limits={"example.com/gpus": "1"}), container("beside"))
    assert environment_of(pod)["GPU_CORE_UTILIZATION_POLICY"] == "force"
    assert environment_of(pod, 1)["GPU_CORE_UTILIZATION_POLICY"] == "force"
    assert pod["spec"]["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in reviews.admit(container())["spec"]


@shows(21)
def test_overwriting_hides_gpus_from_every_container_without_one(reviews: Reviews) -> None:
    pod = reviews.admit(container(limits={"example.com/gpus": "1"}), container("beside"))
    assert "NVIDIA_VISIBLE_DEVICES" not in environment_of(pod)
    assert environment_of(pod, 1)["NVIDIA_VISIBLE_DEVICES"] == "none"
    launcher = reviews.admit(container("compute", {"nvidia.com/GA102GL_A10": "1"}))
    assert environment_of(launcher)["NVIDIA_VISIBLE_DEVICES"] == "none"


@shows(28)
def test_renamed_resources_are_the_ones_that_count(reviews: Reviews) -> None:
    pod = reviews.admit(container(limits={"example.com/memory": "100", "example.com/cores": "10"}))
    assert scheduler_of(pod) == SCHEDULER_NAME
    assert limits_of(pod)["example.com/gpus"] == "1"
    assert scheduler_of(reviews.admit(container(limits=ask(1)))) == DEFAULT
