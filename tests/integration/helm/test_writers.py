"""Who writes which keys and fields of pods and nodes: policies of the chart in a real API server, each met by a try that it
forbids and by those that it must let pass."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.controlplane.client import ApiClient, ApiError
from e2e.controlplane.plane import ControlPlane
from e2e.processes import wait_until
from tests.integration.helm.installation import (
    DEVICE,
    NAMESPACE,
    Installation,
    agent_kubeconfig,
    installation,
)

pytestmark = pytest.mark.integration
Json = dict[str, Any]
TENANT, HAMI, NODE = "writers-tenant", "writers-hami", "writers-1"
PODS, NODE_PATH = f"/api/v1/namespaces/{TENANT}/pods", f"/api/v1/nodes/{NODE}"
GPUNODES = "/apis/poolmgr.io/v1alpha1/gpunodes"
ALLOCATED = "hami.io/vgpu-devices-allocated"
ASSIGNED = {
    ALLOCATED: "GPU-0,NVIDIA,3000,30:;",
    "hami.io/vgpu-devices-to-allocate": "GPU-0,NVIDIA,3000,30:;",
    "hami.io/vgpu-node": NODE,
    "hami.io/vgpu-time": "1700000000",
    "hami.io/bind-time": "1700000000",
    "hami.io/bind-phase": "allocating",
    "hami.io/vgpu-mig-allocations": "[]",
}
OF_A_TENANT = {
    "hami.io/gpu-scheduler-policy": "binpack",
    "nvidia.com/nouse-gpuuuid": "GPU-0",
    "poolmgr.io/best-effort": "true",
}
REPLICA_SETS = "system:serviceaccount:kube-system:replicaset-controller"

# What HAMi's chart gives its scheduler and its plugin, as far as pods and nodes go (releases 2.8.3 and 2.10.0).
HAMIS = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"{HAMI}-{account}"},
        "rules": [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": verbs}],
    }
    for account, verbs in (
        ("scheduler", ["get", "list", "watch", "patch"]),
        ("plugin", ["get", "list", "update", "patch"]),
    )
]


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    plane = control_plane
    for namespace in (TENANT, HAMI):
        plane.ensure_namespace(namespace)
    labels = {"gpu": "on", "example.com/team": "blue"}
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}}, *HAMIS)
    for account in ("scheduler", "plugin"):
        role = f"{HAMI}-{account}"
        plane.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": HAMI},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": HAMI}],
            },
        )
    resources = "--resource=pods,configmaps,deployments.apps,daemonsets.apps"
    verbs = ("--verb=get,list,create,update,patch,delete", resources)
    plane.kubectl("create", "role", "tenant", "-n", TENANT, *verbs)
    plane.kubectl("create", "rolebinding", "alice", "-n", TENANT, "--role=tenant", "--user=alice")
    with installation(plane, "webhook.hooks.pods.enabled=false") as it:
        it.report(NODE, DEVICE)
        plane.api.create(PODS, pod("stands"))
        wait_until("the policies to be in force", lambda: in_force(it))
        yield it
    for namespace in (TENANT, HAMI):
        plane.kubectl("delete", "namespace", namespace, "--wait=false")
    plane.kubectl("delete", "node", NODE)


def pod(name: str, annotations: Json | None = None, **metadata: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TENANT, "annotations": annotations or {}, **metadata},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }


def refusal(call: Callable[[], object]) -> str:
    """What the API server says against it; empty where it is done."""
    try:
        call()
    except ApiError as error:
        assert error.status == 403, error
        return error.message
    return ""


def patched(client: ApiClient, path: str, body: Json | list[Json]) -> str:
    kind = "json" if isinstance(body, list) else "merge"
    return refusal(lambda: client.patch(path, body, kind, dryRun="All"))


def annotated(client: ApiClient, path: str, **annotations: str | None) -> str:
    return patched(client, path, {"metadata": {"annotations": annotations}})


def in_force(release: Installation) -> bool:
    """The API server takes a moment to compile policies that were just made."""
    manager = release.api_as("poolmgr-manager")
    return all(
        (
            annotated(tenant(release), f"{PODS}/stands", **ASSIGNED),
            annotated(kubelet(release), NODE_PATH, **{"poolmgr.io/epoch": "9"}),
            annotated(manager, f"{PODS}/stands", note="x"),
            annotated(manager, NODE_PATH, note="x"),
            refusal(
                lambda: tenant(release).create(
                    f"{APPS}/daemonsets", workload("DaemonSet", "hami-scheduler"), dryRun="All"
                )
            ),
        )
    )


def tenant(release: Installation) -> ApiClient:
    return ApiClient(release.plane.user_kubeconfig("alice"))


def kubelet(release: Installation) -> ApiClient:
    return ApiClient(release.plane.user_kubeconfig(f"system:node:{NODE}", ["system:nodes"]))


def hami(release: Installation, account: str) -> ApiClient:
    return ApiClient(release.plane.service_account_kubeconfig(HAMI, account))


@pytest.mark.parametrize("key", ASSIGNED)
def test_a_tenant_neither_makes_a_pod_with_hamis_word_nor_writes_it_later(
    release: Installation, key: str
) -> None:
    alice, said = tenant(release), "HAMi alone writes which GPUs a pod has"
    assert said in refusal(lambda: alice.create(PODS, pod("new", {key: ASSIGNED[key]}), dryRun="All"))
    assert said in annotated(alice, f"{PODS}/stands", **{key: ASSIGNED[key]})


def test_a_tenant_does_not_take_hamis_word_off_or_change_it(release: Installation) -> None:
    """The pod would keep its GPU, and HAMi would give it to others."""
    path = f"{PODS}/placed"
    release.plane.api.create(PODS, pod("placed", dict(OF_A_TENANT)))
    for account in ("scheduler", "plugin"):
        hami(release, account).patch(path, {"metadata": {"annotations": ASSIGNED}})
    alice, said = tenant(release), "HAMi alone writes which GPUs a pod has"
    assert said in annotated(alice, path, **{ALLOCATED: None})
    assert said in annotated(alice, path, **{ALLOCATED: ";"})
    assert said in patched(alice, path, {"metadata": {"annotations": None}})
    assert said in patched(alice, path, {"metadata": {"labels": {"hami.io/vgpu-node": "elsewhere"}}})
    assert annotated(alice, path, note="x", **{"nvidia.com/nouse-gpuuuid": None}) == ""
    assert annotated(hami(release, "plugin"), path, **{"hami.io/bind-phase": "success"}) == ""


def test_a_template_of_a_tenant_does_not_get_round_it(release: Installation) -> None:
    controller = ApiClient(release.plane.user_kubeconfig(REPLICA_SETS))
    assert refusal(lambda: controller.create(PODS, pod("replica", dict(OF_A_TENANT)), dryRun="All")) == ""
    assert "HAMi alone" in refusal(lambda: controller.create(PODS, pod("replica", ASSIGNED), dryRun="All"))


def test_tenants_keep_hamis_keys_that_are_theirs(release: Installation) -> None:
    alice = tenant(release)
    assert refusal(lambda: alice.create(PODS, pod("mine", dict(OF_A_TENANT)), dryRun="All")) == ""
    ignored = pod("mine", labels={"hami.io/webhook": "ignore"})
    assert refusal(lambda: alice.create(PODS, ignored, dryRun="All")) == ""


APPS = f"/apis/apps/v1/namespaces/{TENANT}"


def workload(kind: str, component: str) -> Json:
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }
    labels = {"app.kubernetes.io/component": component}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": TENANT, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
    }


@pytest.mark.parametrize(
    ("kind", "component"), [("DaemonSet", "hami-device-plugin"), ("Deployment", "hami-scheduler")]
)
def test_a_tenant_makes_nothing_that_looks_like_hamis(
    release: Installation, kind: str, component: str
) -> None:
    alice, said = tenant(release), "this object would look like HAMi's to poolmgr"
    path = f"{APPS}/{kind.lower()}s"
    assert said in refusal(lambda: alice.create(path, workload(kind, component), dryRun="All"))
    alice.create(path, workload(kind, "web"))
    labels = {"app.kubernetes.io/component": component}
    assert said in patched(alice, f"{path}/x", {"metadata": {"labels": labels}})
    assert annotated(alice, f"{path}/x", note="x") == ""
    assert patched(release.plane.api, f"{path}/x", {"metadata": {"labels": labels}}) == ""


def test_a_tenant_makes_no_configuration_of_hami(release: Installation) -> None:
    alice, said = tenant(release), "this object would look like HAMi's to poolmgr"
    path = f"/api/v1/namespaces/{TENANT}/configmaps"
    new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hami-scheduler-device"}}
    assert said in refusal(lambda: alice.create(path, new, dryRun="All"))
    new["metadata"] = {"name": "mine"}
    assert refusal(lambda: alice.create(path, new, dryRun="All")) == ""


@pytest.mark.parametrize("path", [NODE_PATH, f"{NODE_PATH}/status"])
def test_neither_a_kubelet_nor_hamis_plugin_writes_our_marks_on_a_node(
    release: Installation, path: str
) -> None:
    said = "are written by the manager, and by whoever may patch GPUNodes"
    writers = {"kubelet": kubelet(release)}
    if path == NODE_PATH:
        writers["plugin"] = hami(release, "plugin")
    for client in writers.values():
        assert said in annotated(client, path, **{"poolmgr.io/epoch": "2147483647"})
        assert said in patched(
            client, path, {"metadata": {"labels": {"poolmgr.io/best-effort-only": "true"}}}
        )
        assert annotated(client, path, **{"hami.io/node-handshake": "Requesting_x"}) == ""
    assert annotated(release.plane.api, path, **{"poolmgr.io/epoch": "9"}) == "", "an administrator may"


def test_an_agent_makes_its_gpunode_without_our_marks(release: Installation) -> None:
    release.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "writers-2"}})
    agent = ApiClient(agent_kubeconfig(release.plane, "writers-2"))
    new: Json = {"apiVersion": "poolmgr.io/v1alpha1", "kind": "GPUNode", "metadata": {"name": "writers-2"}}
    assert refusal(lambda: agent.create(GPUNODES, new, dryRun="All")) == ""
    new["metadata"]["annotations"] = {"poolmgr.io/epoch": "2147483647"}
    assert "without annotations of poolmgr.io" in refusal(lambda: agent.create(GPUNODES, new, dryRun="All"))


IMAGE = [{"op": "replace", "path": "/spec/containers/0/image", "value": "evil/evil"}]
TOLERATION = [{"op": "add", "path": "/spec/tolerations/-", "value": {"operator": "Exists"}}]
ON_PODS = [
    (IMAGE, "of a pod's spec the manager lifts the scheduling gate"),
    (TOLERATION, "of a pod's spec the manager lifts the scheduling gate"),
    ({"spec": {"activeDeadlineSeconds": 1}}, "of a pod's spec the manager lifts the scheduling gate"),
    ({"metadata": {"labels": {"app": "other"}}}, "of a pod's metadata the manager writes"),
    ({"metadata": {"labels": {"poolmgr.io/leads": "true"}}}, "of a pod's metadata the manager writes"),
    ({"metadata": {"annotations": {"note": "x"}}}, "of a pod's metadata the manager writes"),
    ({"metadata": {"finalizers": ["example.com/stay"]}}, "of a pod's metadata the manager writes"),
    ({"metadata": {"annotations": {ALLOCATED: "GPU-0,NVIDIA,1,1:;"}}}, "of a pod's metadata the manager"),
    (
        {
            "metadata": {
                "annotations": {"nvidia.com/nouse-gpuuuid": "a", "poolmgr.io/excluded-by-poolmgr": "a"}
            }
        },
        "",
    ),
]


@pytest.mark.parametrize(("change", "said"), ON_PODS)
def test_the_managers_token_writes_two_annotations_of_a_pod_and_no_more(
    release: Installation, change: Json | list[Json], said: str
) -> None:
    found = patched(release.api_as("poolmgr-manager"), f"{PODS}/stands", change)
    assert said in found if said else found == ""


def test_the_managers_token_marks_the_pod_that_leads_in_its_own_namespace(release: Installation) -> None:
    own = f"/api/v1/namespaces/{NAMESPACE}/pods"
    spec = {"serviceAccountName": "poolmgr-manager", "containers": [{"name": "manager", "image": "poolmgr"}]}
    replica = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "replica"}, "spec": spec}
    release.plane.api.create(own, replica)
    manager = release.api_as("poolmgr-manager")
    try:
        for value in ("true", None):
            assert (
                patched(manager, f"{own}/replica", {"metadata": {"labels": {"poolmgr.io/leads": value}}})
                == ""
            )
        refused = patched(manager, f"{own}/replica", {"metadata": {"labels": {"app": "other"}}})
        assert "of a pod's metadata the manager writes" in refused
    finally:
        release.plane.api.delete(f"{own}/replica", gracePeriodSeconds=0)


ON_NODES = [
    ({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}, "of a node's spec the manager writes"),
    ({"metadata": {"finalizers": ["example.com/stay"]}}, "of a node's spec the manager writes"),
    (
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        "labels of Kubernetes, KubeVirt",
    ),
    ({"metadata": {"labels": {"kubevirt.io/schedulable": "true"}}}, "labels of Kubernetes, KubeVirt"),
    ({"metadata": {"labels": {"nvidia.com/gpu.present": "false"}}}, "labels of Kubernetes, KubeVirt"),
    ({"metadata": {"annotations": {"example.com/note": "x"}}}, "of a node's annotations the manager writes"),
    ({"spec": {"unschedulable": True}, "metadata": {"annotations": {"poolmgr.io/cordoned": "p"}}}, ""),
    ({"metadata": {"labels": {"gpu": None, "poolmgr.io/opened": "1"}}}, ""),
    ({"metadata": {"annotations": {"hami.io/device-cordon": "GPU-0", "hami.io/node-handshake": None}}}, ""),
]


@pytest.mark.parametrize(("change", "said"), ON_NODES)
def test_the_managers_token_writes_of_a_node_what_a_move_needs(
    release: Installation, change: Json, said: str
) -> None:
    found = patched(release.api_as("poolmgr-manager"), NODE_PATH, change)
    assert said in found if said else found == ""
