"""Who may do what: the chart's roles and the policies inside the API server, asked of a real one."""

import base64
from collections.abc import Iterator
from functools import partial

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
DEPLOY = "nvidia.com/gpu.deploy."
SKIP = "nvidia.com/gpu-driver-upgrade.skip"


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    with installation(control_plane) as it:
        it.report("gpu-1", DEVICE)
        it.report("gpu-2", DEVICE)
        wait_until("the policies to be in force", lambda: _all_policies_refuse(it))
        yield it


def _all_policies_refuse(release: Installation) -> bool:
    """The API server takes a moment to compile policies that were just made."""
    refused = 0
    wanted = {"spec": {"devices": [{"pciAddress": "0000:00:04.0", "mode": "Shared"}]}}
    operand = {"metadata": {"labels": {f"{DEPLOY}dcgm": "x"}}}
    release.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}})
    for client, path, body in (
        (release.plane.api, f"{GPUNODES}/gpu-1", wanted),
        (release.api_as("poolmgr-agent"), f"{GPUNODES}/gpu-1/status", {"status": {"kernel": "x"}}),
        (release.api_as("poolmgr-manager"), "/api/v1/nodes/gpu-1", operand),
    ):
        try:
            client.patch(path, body, dryRun="All")
        except ApiError:
            refused += 1
    return refused == 3


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


def lease(name: str) -> dict[str, object]:
    spec = {"holderIdentity": "gpu-1", "renewTime": "2026-11-29T10:00:00.000000Z"}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def test_an_agent_beats_for_its_own_node_only_and_cannot_take_the_managers_lease(
    release: Installation,
) -> None:
    agent = agent_of(release, "gpu-1")
    leases = LEASES.path(namespace=NAMESPACE)
    agent.create(leases, lease("poolmgr-agent-gpu-1"))
    agent.patch(f"{leases}/poolmgr-agent-gpu-1", {"spec": {"renewTime": "2026-11-29T10:00:15.000000Z"}})
    for name in ("poolmgr-agent-gpu-2", "poolmgr-manager", "gpu-1"):
        with pytest.raises(ApiError, match="an agent may write"):
            agent.create(leases, lease(name))
    release.plane.api.create(leases, lease("poolmgr-manager"))
    try:
        with pytest.raises(ApiError, match="an agent may write"):
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


MAY_LABEL = [
    ({DEPLOY + "dcgm": "true"}, {DEPLOY + "dcgm": "paused-for-poolmgr"}, ""),
    ({DEPLOY + "dcgm": "paused-for-poolmgr"}, {DEPLOY + "dcgm": "true"}, ""),
    ({"gpu": "on"}, {"gpu": None}, ""),
    ({}, {SKIP: "true"}, ""),
    ({SKIP: "true"}, {SKIP: None}, ""),
    ({DEPLOY + "dcgm": "true"}, {DEPLOY + "dcgm": None}, "the manager pauses a service"),
    ({DEPLOY + "dcgm": "true"}, {DEPLOY + "dcgm": "false"}, "the manager pauses a service"),
    ({DEPLOY + "dcgm": "false"}, {DEPLOY + "dcgm": "true"}, "the manager pauses a service"),
    (
        {DEPLOY + "dcgm": "paused-for-driver-upgrade"},
        {DEPLOY + "dcgm": "true"},
        "the manager pauses a service",
    ),
    ({}, {DEPLOY + "driver": "true"}, "the manager pauses a service"),
    ({SKIP: "false"}, {SKIP: "true"}, "leaves a value that somebody else has set"),
    ({SKIP: "false"}, {SKIP: None}, "leaves a value that somebody else has set"),
    ({SKIP: "true"}, {SKIP: "false"}, "leaves a value that somebody else has set"),
]


@pytest.mark.parametrize(("before", "change", "refused"), MAY_LABEL)
def test_the_manager_writes_the_gpu_operators_labels_as_it_says_and_no_other_way(
    release: Installation, before: dict[str, str], change: dict[str, str | None], refused: str
) -> None:
    release.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "labelled"}})
    gone = dict.fromkeys((DEPLOY + "dcgm", DEPLOY + "driver", SKIP, "gpu"))
    node = "/api/v1/nodes/labelled"
    release.plane.api.patch(node, {"metadata": {"labels": {**gone, **before}}})
    write = partial(release.api_as("poolmgr-manager").patch, node, {"metadata": {"labels": change}})
    if not refused:
        write()
        return
    with pytest.raises(ApiError, match=refused):
        write()
    release.plane.api.patch(node, {"metadata": {"labels": change}})  # whoever may label nodes still may


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


def test_where_tokens_are_bound_to_no_node_an_agent_still_cannot_take_the_managers_lease(
    release: Installation,
) -> None:
    leases, agent = LEASES.path(namespace=NAMESPACE), release.api_as("poolmgr-agent")

    def may(name: str) -> bool:
        try:
            agent.create(leases, lease(name), dryRun="All")
        except ApiError as refused:
            assert "an agent may write" in refused.message
            return False
        return True

    release.install("policies.agentOwnNodeOnly=false")
    try:
        wait_until("the policy of own nodes to be gone", lambda: may("poolmgr-agent-gpu-2"))
        assert not may("poolmgr-manager")
    finally:
        release.install("policies.agentOwnNodeOnly=true")
        wait_until("it to be back", lambda: not may("poolmgr-agent-gpu-2"))


CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
HOOK = "/webhooks/0/clientConfig"
ELSEWHERE = [{"op": "add", "path": f"{HOOK}/url", "value": "https://evil.example/x"}]
EVERYTHING = [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]


@pytest.mark.parametrize("kind", ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"])
@pytest.mark.parametrize(
    "change",
    [
        ELSEWHERE,
        [{"op": "replace", "path": "/webhooks/0/rules", "value": EVERYTHING}],
        [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}],
        [
            {
                "op": "add",
                "path": "/webhooks/0/matchConditions",
                "value": [{"name": "x", "expression": "true"}],
            }
        ],
        [{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 30}],
        [{"op": "replace", "path": "/webhooks/0/name", "value": "other.poolmgr.io"}],
        [{"op": "remove", "path": "/webhooks/0"}],
        [{"op": "add", "path": "/metadata/labels/x", "value": "y"}],
    ],
    ids=["where to", "rules", "failure", "conditions", "time", "name", "none", "metadata"],
)
def test_the_webhooks_token_writes_of_its_configurations_the_authority_alone(
    release: Installation, kind: str, change: list[dict[str, object]]
) -> None:
    authority = base64.b64encode(release.plane.authority.path.read_bytes()).decode()
    webhook, path = release.api_as("poolmgr-webhook"), f"{CONFIGURATIONS}/{kind}/00-poolmgr"
    bundle = [{"op": "add", "path": f"{HOOK}/caBundle", "value": authority}]

    def refused(patch: list[dict[str, object]]) -> str:
        try:
            webhook.patch(path, patch, kind="json", dryRun="All")
        except ApiError as error:
            return error.message
        return ""

    wait_until("the policy to be in force", lambda: "caBundle, and nothing else" in refused(change))
    assert refused(bundle) == ""
    assert "caBundle, and nothing else" in refused([*bundle, *change])
