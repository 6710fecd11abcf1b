"""The image where it belongs: its chart's pods on a node with a kubelet, a container runtime and GPUs."""

import json
from collections.abc import Iterator

import pytest

from e2e.controlplane.client import Json
from e2e.controlplane.plane import CommandFailed
from e2e.node.kubelet import KubeNode
from e2e.node.nvml import ensure_nvml, gpu_uuid
from e2e.node.poolmgr_release import NAMESPACE, Poolmgr
from tools.image.build import Built

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

COMPONENTS = ("manager", "webhook", "agent")


@pytest.fixture(scope="module")
def release(image: Built, kube_node: KubeNode) -> Iterator[Poolmgr]:
    ensure_nvml(kube_node.guest)
    installed = Poolmgr(kube_node, image)
    installed.install()
    for component in COMPONENTS:
        installed.wait_ready(component)
    yield installed
    installed.uninstall()


def _container(pod: Json) -> Json:
    (status,) = pod["status"]["containerStatuses"]
    found: Json = status
    return found


def test_each_pod_runs_this_very_image_and_was_never_started_twice(release: Poolmgr, image: Built) -> None:
    known = release.node.guest.run("ctr -n k8s.io images ls", check=True).out
    assert any(line.split()[0] == image.name and image.digest in line for line in known.splitlines())
    for component in COMPONENTS:
        (pod,) = release.wait_ready(component)
        assert _container(pod)["image"] == image.name
        assert _container(pod)["restartCount"] == 0, release.node.pod_log(NAMESPACE, pod["metadata"]["name"])


@pytest.mark.parametrize("component", ["manager", "webhook"])
def test_manager_and_webhook_are_nobody_and_can_write_nothing_of_the_image(
    release: Poolmgr, component: str
) -> None:
    (pod,) = release.wait_ready(component)
    script = "import pathlib; pathlib.Path('/usr/x').write_text('')"
    with pytest.raises(CommandFailed, match="Read-only file system"):
        release.plane.kubectl("exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "python3", "-c", script)
    status = release.node.guest.run(
        f"ctr -n k8s.io tasks ls | grep {_container(pod)['containerID'].removeprefix('containerd://')}",
        check=True,
    ).out.split()
    ids = release.node.guest.get(f"/proc/{status[1]}/status")
    assert [line.split()[1] for line in ids.splitlines() if line.startswith(("Uid", "Gid"))] == ["65532"] * 2
    assert any(line.split() == ["CapEff:", "0" * 16] for line in ids.splitlines())


def test_the_agent_reports_both_gpus_with_what_nvml_and_the_kernel_say(release: Poolmgr) -> None:
    path = f"/apis/poolmgr.io/v1alpha1/gpunodes/{release.node.name}"

    def devices() -> list[Json]:
        found: list[Json] = release.plane.api.get(path).get("status", {}).get("devices", [])
        return found if len(found) == 2 else []

    reported = release.plane.wait_for("the agent's report of two GPUs", devices)
    assert {item["pciAddress"]: item["uuid"] for item in reported} == {
        address: gpu_uuid(address) for address in release.node.guest.spec.gpu_addresses
    }
    assert {item["driver"] for item in reported} == set(release.node.guest.drivers().values())


def test_the_agents_own_words_are_whole_where_no_terminal_is(release: Poolmgr) -> None:
    said = release.run("agent", "agent", "show")
    for address in release.node.guest.spec.gpu_addresses:
        assert address in said
    assert "…" not in said


def test_the_api_server_reaches_the_webhook_by_its_service(release: Poolmgr) -> None:
    pool = {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": "off"},
        "spec": {"passthrough": {"headroom": 1}, "rebalance": {"mode": "Off"}},
    }
    said = release.plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(pool))
    assert "headroom has no effect while rebalance.mode is Off" in said


def test_the_managers_rest_api_answers_an_admin_through_a_port_forward(release: Poolmgr) -> None:
    with release.api(release.admin_kubeconfig()) as api:
        nodes = api.get("/nodes")
    assert release.node.name in json.dumps(nodes)


def test_a_manager_starts_where_every_node_is_cordoned(release: Poolmgr) -> None:
    """A move may cordon its node. Where that is the only node, nobody but the manager takes the cordon off."""
    release.plane.kubectl("cordon", release.node.name)
    try:
        killed = release.kill_leader()
        (successor,) = release.wait_ready("manager")
    finally:
        release.plane.kubectl("uncordon", release.node.name)
    assert successor["metadata"]["name"] != killed
