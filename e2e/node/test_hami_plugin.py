"""HAMi's device plugin on the emulated node: it registers what NVML shows when it starts, and only that.

The last part of the HAMi contract (`e2e/hami/statements.yaml`), on whichever HAMi stands here.
"""

import json

import pytest

from e2e.controlplane.hami import REGISTER_ANNOTATION
from e2e.node.builders import pod
from e2e.node.hami_plugin import HamiPlugin
from e2e.node.nvml import ENVIRONMENT, HOST_DRIVER, gpu_uuid, nvml_addresses

pytestmark = pytest.mark.hami("2.10.0")
NAMESPACE = "vgpu-tests"


def registered(plugin: HamiPlugin) -> set[str]:
    text = plugin.node.object()["metadata"]["annotations"].get(REGISTER_ANNOTATION, "[]")
    return {device["id"] for device in json.loads(text) if device.get("health")}


@pytest.mark.statement(150, 151)
def test_both_gpus_are_registered_and_a_vgpu_pod_runs(hami_plugin: HamiPlugin) -> None:
    node = hami_plugin.node
    first, second = (gpu_uuid(address) for address in node.guest.spec.gpu_addresses)
    hami_plugin.label(on=True)
    hami_plugin.wait_registered(2)
    node.plane.wait_for("both in the annotation", lambda: registered(hami_plugin) == {first, second})
    hami_plugin.hami.wait_until_known(first, second)
    node.plane.ensure_namespace(NAMESPACE)
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "3000", "nvidia.com/gpucores": "30"}
    node.plane.apply(pod("vgpu", NAMESPACE, limits=limits))
    found = node.wait_for_pod(NAMESPACE, "vgpu")
    annotations = found["metadata"]["annotations"]
    assert annotations["hami.io/bind-phase"] == "success"
    assert annotations["hami.io/vgpu-devices-allocated"].split(",")[0] in (first, second)
    environment = node.guest.run("cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep MEMORY_LIMIT").out
    assert "CUDA_DEVICE_MEMORY_LIMIT_0=3000m" in environment
    node.plane.kubectl("delete", "pod", "-n", NAMESPACE, "vgpu", "--timeout=300s")


@pytest.mark.statement(150, 152)
def test_a_gpu_that_left_its_driver_is_gone_after_a_restart_and_returns(hami_plugin: HamiPlugin) -> None:
    node = hami_plugin.node
    leaving, staying = node.guest.spec.gpu_addresses
    hami_plugin.label(on=True)
    hami_plugin.wait_registered(2)
    node.guest.rebind(leaving, "vfio-pci")
    assert nvml_addresses(node.guest) == [staying]
    hami_plugin.restart()
    hami_plugin.wait_registered(1)
    node.plane.wait_for("the other alone", lambda: registered(hami_plugin) == {gpu_uuid(staying)})
    hami_plugin.label(on=False)
    node.plane.wait_for("no plugin pod", lambda: not hami_plugin.pods())
    hami_plugin.wait_registered(0)
    node.guest.rebind(leaving, HOST_DRIVER)
    hami_plugin.label(on=True)
    hami_plugin.wait_registered(2)
    hami_plugin.label(on=False)
    node.plane.wait_for("no plugin pod", lambda: not hami_plugin.pods())


@pytest.mark.statement(153)
def test_a_gpu_that_leaves_under_the_running_plugin_restarts_it(hami_plugin: HamiPlugin) -> None:
    node = hami_plugin.node
    leaving, staying = node.guest.spec.gpu_addresses
    hami_plugin.label(on=True)
    hami_plugin.wait_registered(2)
    (before,) = hami_plugin.pods()
    node.guest.rebind(leaving, "vfio-pci")
    hami_plugin.wait_registered(1)
    node.plane.wait_for("the other alone", lambda: registered(hami_plugin) == {gpu_uuid(staying)})
    assert hami_plugin.pods() == [before]
    assert hami_plugin.restarts() >= 1
    node.guest.rebind(leaving, HOST_DRIVER)
    hami_plugin.restart()
    hami_plugin.wait_registered(2)


@pytest.mark.statement(154)
def test_a_new_plugin_leaves_running_pods_alone(hami_plugin: HamiPlugin) -> None:
    node = hami_plugin.node
    hami_plugin.label(on=True)
    hami_plugin.wait_registered(2)
    node.plane.ensure_namespace(NAMESPACE)
    node.plane.apply(pod("stays", NAMESPACE, limits={"nvidia.com/gpu": "1", "nvidia.com/gpumem": "1000"}))
    node.wait_for_pod(NAMESPACE, "stays")
    hami_plugin.restart()
    hami_plugin.wait_registered(2)
    found = node.wait_for_pod(NAMESPACE, "stays")
    assert [item["restartCount"] for item in found["status"]["containerStatuses"]] == [0]
    node.plane.kubectl("delete", "pod", "-n", NAMESPACE, "stays", "--timeout=120s")


COUNT = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"


def test_python_sees_the_same_gpus_through_nvml(hami_plugin: HamiPlugin) -> None:
    from e2e.node.node import REPOSITORY

    python = str(REPOSITORY / ".venv/bin/python")
    found = hami_plugin.node.guest.run([python, "-c", COUNT], env=ENVIRONMENT, check=True)
    assert found.out.strip() == "2"
