"""The contract's first part: what the chart makes."""

from typing import Any

import pytest
import yaml

from e2e.controlplane.hami import Hami
from e2e.hami.contract import shows
from e2e.hami.statements import V8

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
NVIDIA = {f"nvidia.com/{name}" for name in ("gpu", "gpumem", "gpumem-percentage", "gpucores", "priority")}


def containers(hami: Hami, kind: str, name: str) -> dict[str, Any]:
    return {item["name"]: item for item in pod_spec(hami, kind, name)["containers"]}


def pod_spec(hami: Hami, kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = hami.objects[kind, name]["spec"]["template"]["spec"]
    return spec


@shows(1)
def test_the_release_is_the_tag_of_the_extenders_image(standing: Hami, release: str) -> None:
    deployment = standing.objects["Deployment", "hami-scheduler"]
    assert deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "hami-scheduler"
    found = containers(standing, "Deployment", "hami-scheduler")
    assert set(found) == {"kube-scheduler", "vgpu-scheduler-extender"}
    assert found["vgpu-scheduler-extender"]["image"].rpartition(":")[2] == f"v{release}"


@shows(2)
def test_one_extender_manages_hamis_resources(standing: Hami) -> None:
    loaded = [
        yaml.safe_load(text)
        for (kind, _), item in standing.objects.items()
        if kind == "ConfigMap"
        for text in item["data"].values()
    ]
    (config,) = [c for c in loaded if isinstance(c, dict) and c.get("kind") == "KubeSchedulerConfiguration"]
    assert [profile["schedulerName"] for profile in config["profiles"]] == ["hami-scheduler"]
    (extender,) = config["extenders"]
    assert (extender["filterVerb"], extender["bindVerb"]) == ("filter", "bind")
    assert (extender["nodeCacheCapable"], extender["httpTimeout"]) == (True, "30s")
    managed = {item["name"]: item["ignoredByScheduler"] for item in extender["managedResources"]}
    assert set(managed) >= NVIDIA
    assert all(managed.values())


@shows(3)
def test_the_webhook_lets_pods_through_that_it_cannot_see(standing: Hami) -> None:
    configuration = standing.objects["MutatingWebhookConfiguration", "hami-webhook"]
    (webhook,) = configuration["webhooks"]
    assert (webhook["name"], webhook["failurePolicy"]) == ("vgpu.hami.io", "Ignore")
    assert (webhook["timeoutSeconds"], webhook["reinvocationPolicy"]) == (10, "Never")
    (rule,) = webhook["rules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])
    for selector in ("objectSelector", "namespaceSelector"):
        expression = {"key": "hami.io/webhook", "operator": "NotIn", "values": ["ignore"]}
        assert expression in webhook[selector]["matchExpressions"]


@shows(4)
def test_the_plugin_runs_where_gpu_is_on(standing: Hami) -> None:
    daemon_set = standing.objects["DaemonSet", "hami-device-plugin"]
    template = daemon_set["spec"]["template"]
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "hami-device-plugin"
    spec = template["spec"]
    assert (spec["nodeSelector"], spec["hostPID"], spec.get("tolerations")) == ({"gpu": "on"}, True, None)
    found = containers(standing, "DaemonSet", "hami-device-plugin")
    assert set(found) == {"device-plugin", "vgpu-monitor"}
    assert found["device-plugin"]["securityContext"]["privileged"] is True
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    for item in found.values():
        mounted = {mount["mountPath"]: paths.get(mount["name"]) for mount in item["volumeMounts"]}
        assert mounted["/tmp"] == "/tmp"


@shows(5)
def test_both_configurations_are_config_maps(standing: Hami) -> None:
    config = yaml.safe_load(standing.device_config())
    assert config["nvidia"]["resourceCountName"] == "nvidia.com/gpu"
    assert config["nvidia"]["deviceSplitCount"] == 10
    nodes = yaml.safe_load(standing.objects["ConfigMap", "hami-device-plugin"]["data"]["config.json"])
    assert isinstance(nodes["nodeconfig"], list)


@shows(6)
def test_2_8_lists_geometries(standing: Hami) -> None:
    assert "knownMigGeometries" in yaml.safe_load(standing.device_config())["nvidia"]


@shows(7)
def test_2_10_lists_profiles(standing: Hami) -> None:
    assert "migProfileAllowlist" in yaml.safe_load(standing.device_config())["nvidia"]


@shows(8)
def test_other_vendors_are_named(standing: Hami, release: str) -> None:
    config = yaml.safe_load(standing.device_config())
    assert config["cambricon"]["resourceCountName"] == "cambricon.com/vmlu"
    assert config["hygon"]["resourceMemoryName"] == "hygon.com/dcumem"
    assert config["metax"]["resourceVCountName"] == "metax-tech.com/sgpu"
    assert config["mthreads"]["resourceCountName"] == "mthreads.com/vgpu"
    assert config["enflame"]["resourceNameGCU"] == "enflame.com/gcu"
    assert config["kunlun"]["resourceVCountName"] == "kunlunxin.com/vxpu"
    assert config["awsneuron"]["resourceCoreName"] == "aws.amazon.com/neuroncore"
    assert config["amd"]["resourceCountName"] == "amd.com/gpu"
    assert "iluvatar.ai/BI-V150-vgpu" in {chip["resourceCountName"] for chip in config["iluvatars"]}
    chips = config["vnpus"] if release == V8 else config["vnpus"]["configs"]
    assert "huawei.com/Ascend910B4" in {chip["resourceName"] for chip in chips}
