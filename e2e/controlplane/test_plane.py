"""The control plane as tests use it: versions, rights, fake nodes, outages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.build import pinned
from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import CommandFailed, ControlPlane
from e2e.fixtures import running_control_plane
from e2e.processes import is_alive, wait_until

pytestmark = pytest.mark.integration

POD = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": "none"}]}}


def test_programs_have_the_pinned_versions(control_plane: ControlPlane) -> None:
    pins = {
        "k8s.io/kubernetes": [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kubectl",
        ],
        "go.etcd.io/etcd/server/v3": ["etcd"],
        "sigs.k8s.io/kwok": ["kwok"],
        "helm.sh/helm/v4": ["helm"],
    }
    said = control_plane.versions()
    built = {
        name for name, program in control_plane.programs.items() if program.origin == "built from go.mod"
    }
    for module, names in pins.items():
        for name in built.intersection(names):
            assert said[name].removeprefix("v") == pinned(module).removeprefix("v"), name
    assert control_plane.api.get("/version")["gitVersion"] == said["kube-apiserver"]


def test_a_pod_runs_on_a_fake_node(kwok: ControlPlane) -> None:
    kwok.add_fake_node("plane-fake")
    kwok.ensure_namespace("plane")
    spec = POD["spec"] | {"nodeSelector": {"kubernetes.io/hostname": "plane-fake"}}
    kwok.apply(POD | {"metadata": {"name": "runs", "namespace": "plane"}, "spec": spec})
    path = "/api/v1/namespaces/plane/pods/runs"
    kwok.wait_for("the pod to run", lambda: kwok.api.get(path)["status"]["phase"] == "Running")
    assert kwok.api.get(path)["spec"]["nodeName"] == "plane-fake"
    kwok.api.delete("/api/v1/nodes/plane-fake")


def test_kwok_leaves_other_nodes_alone(kwok: ControlPlane) -> None:
    kwok.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "plane-real"}})
    kwok.add_fake_node("plane-fake-2")  # Ready: KWOK has seen the nodes up to here
    conditions = kwok.api.get("/api/v1/nodes/plane-real")["status"].get("conditions", [])
    assert not [item for item in conditions if item["status"] == "True"]
    kwok.api.delete("/api/v1/nodes/plane-real")
    kwok.api.delete("/api/v1/nodes/plane-fake-2")


def test_a_service_account_has_its_own_rights_only(control_plane: ControlPlane) -> None:
    control_plane.ensure_namespace("plane")
    token = control_plane.service_account_kubeconfig("plane", "default")
    assert "system:serviceaccount:plane:default" in control_plane.kubectl("auth", "whoami", kubeconfig=token)
    with pytest.raises(CommandFailed, match="forbidden"):
        control_plane.kubectl("get", "nodes", kubeconfig=token)


def test_a_namespace_that_is_being_deleted_is_made_anew(control_plane: ControlPlane) -> None:
    path = "/api/v1/namespaces/again"
    control_plane.ensure_namespace("again")
    before = control_plane.api.get(path)["metadata"]["uid"]
    control_plane.api.delete(path)
    control_plane.ensure_namespace("again")
    after = control_plane.api.get(path)["metadata"]
    assert "deletionTimestamp" not in after
    assert after["uid"] != before


def test_a_refusal_carries_the_servers_reason(control_plane: ControlPlane) -> None:
    with pytest.raises(ApiError) as refused:
        control_plane.api.get("/api/v1/nodes/nowhere")
    assert (refused.value.status, refused.value.reason) == (404, "NotFound")


@pytest.fixture
def own_plane(artifacts: Path) -> Iterator[ControlPlane]:
    yield from running_control_plane(artifacts / "outages")


def test_data_survives_outages_and_the_scheduler_goes_on(own_plane: ControlPlane) -> None:
    own_plane.ensure_namespace("before")
    with own_plane.outage(), pytest.raises(CommandFailed, match="refused"):
        own_plane.kubectl("get", "namespaces")
    with own_plane.outage(killed=True):
        assert not own_plane.processes["kube-apiserver"].running
    assert own_plane.api.exists("/api/v1/namespaces/before")
    own_plane.kill("kube-scheduler")
    own_plane.add_fake_node("after-outage")
    own_plane.apply(POD | {"metadata": {"name": "waits", "namespace": "before"}})
    own_plane.restart("kube-scheduler")
    path = "/api/v1/namespaces/before/pods/waits"
    own_plane.wait_for("the pod to be bound", lambda: own_plane.api.get(path)["spec"].get("nodeName"))


_SESSION = """
import pathlib, sys, time
from e2e.controlplane.plane import ControlPlane
plane = ControlPlane(pathlib.Path(sys.argv[1])).start()
plane.ensure_scheduler()
plane.ensure_kwok()
print(*(process.pid for process in plane.processes.values()), flush=True)
time.sleep(600)
"""


def test_kill_minus_nine_of_a_session_leaves_no_process(control_plane: ControlPlane, tmp_path: Path) -> None:
    session = subprocess.Popen([sys.executable, "-c", _SESSION, tmp_path], stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    lines = (line for line in session.stdout if line[0].isdigit())
    children = [int(word) for word in next(lines).split()]
    assert len(children) == 4
    session.kill()
    session.wait()
    wait_until("etcd, API server, scheduler and KWOK to be gone", lambda: not any(map(is_alive, children)))
