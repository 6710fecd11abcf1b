"""Who may do what: the chart's roles and the policies inside the API server, asked of a real one."""

from collections.abc import Iterator

import pytest
import yaml

from e2e.controlplane.client import ApiClient, ApiError
from e2e.controlplane.plane import CommandFailed, ControlPlane
from e2e.processes import wait_until
from poolmgr.wire.kinds import LEASES
from tests.integration.helm.installation import (
    DEVICE,
    NAMESPACE,
    Installation,
    agent_kubeconfig,
    installation,
)

pytestmark = pytest.mark.integration
GPUNODES = "/apis/poolmgr.io/v1alpha1/gpunodes"


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    with installation(control_plane) as it:
        it.report("gpu-1", DEVICE)
        it.report("gpu-2", DEVICE)
        wait_until("the policies to be in force", lambda: _both_policies_refuse(it))
        yield it


def _both_policies_refuse(release: Installation) -> bool:
    """The API server takes a moment to compile policies that were just made."""
    refused = 0
    wanted = {"spec": {"devices": [{"pciAddress": "0000:00:04.0", "mode": "Shared"}]}}
    for client, part, body in (
        (release.plane.api, "", wanted),
        (release.api_as("poolmgr-agent"), "/status", {"status": {"kernel": "x"}}),
    ):
        try:
            client.patch(f"{GPUNODES}/gpu-1{part}", body, dryRun="All")
        except ApiError:
            refused += 1
    return refused == 2


MAY = [
    ("poolmgr-webhook", "watch", "gpunodes.poolmgr.io", True),
    ("poolmgr-webhook", "patch", "gpunodes.poolmgr.io", False),
    ("poolmgr-webhook", "list", "secrets", False),
    ("poolmgr-webhook", "get", "pods", False),
    ("poolmgr-agent", "patch", "gpunodes.poolmgr.io/status", True),
    ("poolmgr-agent", "patch", "gpunodes.poolmgr.io", False),
    ("poolmgr-agent", "delete", "leases.coordination.k8s.io", False),
    ("poolmgr-agent", "patch", "nodes", False),
    ("poolmgr-agent", "get", "secrets", False),
    ("poolmgr-agent", "delete", "pods", False),
    ("poolmgr-manager", "patch", "gpunodes.poolmgr.io", True),
    ("poolmgr-manager", "patch", "gpunodes.poolmgr.io/status", False),
    ("poolmgr-manager", "create", "pods/eviction", True),
    ("poolmgr-manager", "delete", "pods", False),
    ("poolmgr-manager", "get", "secrets", False),
    ("poolmgr-manager", "delete", "virtualmachines.kubevirt.io", False),
]


@pytest.mark.parametrize(("account", "verb", "resource", "allowed"), MAY)
def test_accounts_may_do_what_they_need_and_no_more(
    release: Installation, account: str, verb: str, resource: str, allowed: bool
) -> None:
    name, _, subresource = resource.partition("/")
    plural, _, group = name.partition(".")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:{account}",
            "resourceAttributes": {
                "verb": verb,
                "group": group,
                "resource": plural,
                "subresource": subresource,
                "namespace": "default",
            },
        },
    }
    answer = release.plane.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert answer["status"]["allowed"] is allowed


def agent_of(release: Installation, node: str) -> ApiClient:
    """An agent's client with a token bound to its pod on `node`, as the kubelet would hand out."""
    release.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    return ApiClient(agent_kubeconfig(release.plane, node))


def test_an_agent_writes_its_own_nodes_status_only(release: Installation) -> None:
    agent = agent_of(release, "gpu-1")
    agent.patch(f"{GPUNODES}/gpu-1/status", {"status": {"kernel": "6.1"}})
    with pytest.raises(ApiError) as refused:
        agent.patch(f"{GPUNODES}/gpu-2/status", {"status": {"kernel": "6.1"}})
    assert (
        'an agent may write the GPUNode of its own node only: this token is of node "gpu-1", the object is gpu-2'
        in refused.value.message
    )


def test_an_agent_beats_for_its_own_node_only_and_cannot_take_the_managers_lease(
    release: Installation,
) -> None:
    agent = agent_of(release, "gpu-1")
    leases = LEASES.path(namespace=NAMESPACE)

    def lease(name: str) -> dict[str, object]:
        spec = {"holderIdentity": "gpu-1", "renewTime": "2026-11-29T10:00:00.000000Z"}
        metadata = {"name": name, "namespace": NAMESPACE}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    agent.create(leases, lease("poolmgr-agent-gpu-1"))
    agent.patch(f"{leases}/poolmgr-agent-gpu-1", {"spec": {"renewTime": "2026-11-29T10:00:15.000000Z"}})
    for name in ("poolmgr-agent-gpu-2", "poolmgr-manager", "gpu-1"):
        with pytest.raises(ApiError, match="may write the heartbeat of its own node only"):
            agent.create(leases, lease(name))
    release.plane.api.create(leases, lease("poolmgr-manager"))
    try:
        with pytest.raises(ApiError, match="may write the heartbeat of its own node only"):
            agent.patch(f"{leases}/poolmgr-manager", {"spec": {"holderIdentity": "gpu-1"}})
    finally:
        release.plane.api.delete(f"{leases}/poolmgr-manager")


def test_an_agent_makes_its_own_gpunode_only_and_without_a_will_of_its_own(release: Installation) -> None:
    agent = agent_of(release, "gpu-3")
    new = {"apiVersion": "poolmgr.io/v1alpha1", "kind": "GPUNode", "metadata": {"name": "gpu-4"}}
    with pytest.raises(ApiError, match="of its own node only"):
        agent.create(GPUNODES, new)
    desired = {"devices": [{"pciAddress": DEVICE["pciAddress"], "mode": "Passthrough"}]}
    new["metadata"] = {"name": "gpu-3"}
    with pytest.raises(ApiError, match="written by the manager only"):
        agent.create(GPUNODES, new | {"spec": desired})
    agent.create(GPUNODES, new)


def test_a_token_that_is_bound_to_no_node_is_no_agents(release: Installation) -> None:
    with pytest.raises(ApiError, match='this token is of node ""'):
        release.api_as("poolmgr-agent").patch(f"{GPUNODES}/gpu-1/status", {"status": {"kernel": "6.1"}})


def test_nobody_but_the_manager_writes_what_is_wanted_of_a_gpu(release: Installation) -> None:
    spec = '{"spec": {"devices": [{"pciAddress": "0000:00:04.0", "mode": "Shared"}]}}'
    patch = ("patch", "gpunode", "gpu-1", "--type=merge", "-p", spec)
    with pytest.raises(
        CommandFailed, match=r"GPUNode\.spec is written by the manager only; change the GPUPool"
    ):
        release.plane.kubectl(*patch)
    release.api_as("poolmgr-manager").patch(f"{GPUNODES}/gpu-1", yaml.safe_load(spec))
    assert "annotated" in release.plane.kubectl("annotate", "gpunode", "gpu-1", "note=mine")


def test_further_writers_can_be_named(release: Installation) -> None:
    release.install("policies.specWriters={admin}")
    try:
        empty = {"spec": {"devices": []}}
        wait_until("admin to be a writer", lambda: release.plane.api.patch(f"{GPUNODES}/gpu-1", empty))
    finally:
        release.install()
