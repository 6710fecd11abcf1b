"""The authorization configuration of docs/how-to/bound-what-agents-read.md, on a real API server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.controlplane.client import ApiClient, ApiError
from e2e.controlplane.plane import ControlPlane
from tests.integration.helm.installation import CHART, NAMESPACE, agent_kubeconfig

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "bound-what-agents-read.md"
PODS = "/api/v1/pods"
NOBODY_ASKED = "127.0.0.1:1: connect: connection refused"
"""How the API server says no here: it would have asked, and refuses where nobody answers."""


def files_of_the_page(folder: Path) -> Path:
    """What the page has its reader write, with the paths of this machine."""
    found = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    configuration, nobody = (yaml.safe_load(text) for text in found)
    [webhook] = [a["webhook"] for a in configuration["authorizers"] if a["type"] == "Webhook"]
    webhook["connectionInfo"]["kubeConfigFile"] = str(folder / "nobody.yaml")
    (folder / "nobody.yaml").write_text(yaml.safe_dump(nobody))
    target = folder / "authorization.yaml"
    target.write_text(yaml.safe_dump(configuration))
    return target


@pytest.fixture(scope="module")
def plane(artifacts: Path) -> Iterator[ControlPlane]:
    """Its own, as the API server reads the configuration at its start."""
    folder = artifacts / "what-agents-read"
    folder.mkdir()
    programs = ("etcd", "kube-apiserver", "kubectl", "helm")
    running = ControlPlane(folder, programs, authorization=files_of_the_page(folder)).start()
    try:
        running.helm("install", "poolmgr", str(CHART), "-n", NAMESPACE, "--create-namespace")
        for name in ("gpu-1", "gpu-2"):
            running.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        yield running
    finally:
        running.stop()


def test_an_agent_lists_the_pods_of_its_own_node_and_no_others(plane: ControlPlane) -> None:
    agent = ApiClient(agent_kubeconfig(plane, "gpu-1"))
    assert [p["metadata"]["name"] for p in agent.get(PODS, fieldSelector="spec.nodeName=gpu-1")["items"]] == [
        "agent-on-gpu-1"
    ]
    for query in (
        {},
        {"fieldSelector": "spec.nodeName=gpu-2"},
        {"fieldSelector": "spec.nodeName!=gpu-1"},
        {"fieldSelector": "metadata.namespace=default"},
        {"labelSelector": "spec.nodeName=gpu-1"},
    ):
        with pytest.raises(ApiError, match=NOBODY_ASKED):
            agent.get(PODS, **query)


def test_a_token_of_no_node_lists_none(plane: ControlPlane) -> None:
    loose = ApiClient(plane.service_account_kubeconfig(NAMESPACE, "poolmgr-agent"))
    with pytest.raises(ApiError, match=NOBODY_ASKED):
        loose.get(PODS, fieldSelector="spec.nodeName=gpu-1")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:poolmgr-agent",
            "resourceAttributes": {"verb": "list", "resource": "pods"},
        },
    }
    answer = plane.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert not answer["status"].get("allowed")


def test_what_else_an_agent_does_and_what_others_read_is_as_before(plane: ControlPlane) -> None:
    agent = ApiClient(agent_kubeconfig(plane, "gpu-1"))
    assert agent.get("/api/v1/nodes/gpu-1")["metadata"]["name"] == "gpu-1"
    with pytest.raises(ApiError) as missing:
        agent.get("/apis/poolmgr.io/v1alpha1/gpunodes/gpu-1")
    assert missing.value.status == 404
    manager = ApiClient(plane.service_account_kubeconfig(NAMESPACE, "poolmgr-manager"))
    assert manager.get(PODS)["items"]
