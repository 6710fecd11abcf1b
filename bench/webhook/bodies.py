"""The reviews that are sent, as an API server of Kubernetes 1.36 would for a Pod that a controller creates. Pure."""

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

NAMESPACE = "ml"
VGPU, PLAIN, LAUNCHER = "vgpu", "plain", "launcher"
RESOURCE = "nvidia.com/GA102GL_A10"


@dataclass(frozen=True, slots=True)
class Body:
    """One review, sent again and again."""

    key: str
    title: str
    uid: str
    """Of the review; its answer repeats it."""
    content: bytes
    cpu_goal: float
    """So many times HAMi's CPU seconds for the same requests, at most."""


def bodies() -> dict[str, Body]:
    """A pod that asks for a slice of a GPU, one that asks for none, and KubeVirt's launcher pod of a machine with one
    GPU. An API server sends the second only where HAMi is alone: ours is not called for it (matchConditions)."""
    slice_of_gpu = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "3k", "nvidia.com/gpucores": "30"}
    found = (
        _body(
            VGPU, "vGPU pod", "8c5e2c3c-6a6e-4e0b-8a15-0b6f0c9f2a11", _ordinary("train", slice_of_gpu), 1.0
        ),
        _body(PLAIN, "plain pod", "0d5f3a4e-91c7-4b9e-8a3b-6f1f3f6f7c55", _ordinary("web", {}), 1.0),
        _body(LAUNCHER, "launcher pod", "f1d0a7b2-4f0e-4a55-9f43-1f7a1cf5f2d9", _launcher(), 1 / 1.5),
    )
    return {body.key: body for body in found}


def _body(key: str, kind: str, uid: str, pod: Json, cpu_goal: float) -> Body:
    name = {"group": "", "version": "v1"}
    request = {
        "uid": uid,
        "kind": name | {"kind": "Pod"},
        "resource": name | {"resource": "pods"},
        "requestKind": name | {"kind": "Pod"},
        "requestResource": name | {"resource": "pods"},
        "namespace": NAMESPACE,
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "uid": "2b0a5f9a-5c0d-4a60-8c8b-2f4f6a1f1f10",
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    content = json.dumps(review, separators=(",", ":")).encode()
    return Body(key, f"{kind}, {len(content) / 1000:.0f} KB", uid, content, cpu_goal)


def _ordinary(name: str, devices: dict[str, str]) -> Json:
    metadata = {"generateName": f"{name}-7d9c6b5f4-", "namespace": NAMESPACE, "labels": {"app": name}}
    return _pod(metadata, [_container("main", {"cpu": "4", "memory": "16Gi"} | devices)])


def _launcher() -> Json:
    metadata = {
        "generateName": "virt-launcher-desktop-17-",
        "namespace": NAMESPACE,
        "labels": {
            "kubevirt.io": "virt-launcher",
            "kubevirt.io/created-by": "6d1f0c1e-9d4c-4f7b-8a52-0f2a7c7e9a31",
            "vm.kubevirt.io/name": "desktop-17",
        },
        "annotations": {f"kubevirt.io/setting-{number}": "v" * 40 for number in range(6)},
    }
    disks = [f"disk-{number:02d}" for number in range(11)]
    mounts = [{"name": disk, "mountPath": f"/var/run/kubevirt-private/{disk}"} for disk in disks]
    settings = [{"name": f"KUBEVIRT_SETTING_{number:02d}", "value": "v" * 30} for number in range(11)]
    limits = {"cpu": "4", "memory": "16Gi", "devices.kubevirt.io/kvm": "1", RESOURCE: "1"}

    def container(name: str, many: int) -> Json:
        given = {"args": ["--qemu-timeout", "305s", "--name", "desktop-17"]}
        return _container(name, limits) | given | {"env": settings[:many], "volumeMounts": mounts[:many]}

    not_labelled = {"key": "node-labeller.kubevirt.io/skip-node", "operator": "DoesNotExist"}
    required = {"nodeSelectorTerms": [{"matchExpressions": [not_labelled]}]}
    return _pod(
        metadata,
        [container("compute", 11), container("volumerootdisk", 9), container("guest-console-log", 8)],
        initContainers=[container("container-disk-binary", 6)],
        volumes=[{"name": disk, "emptyDir": {"medium": "Memory", "sizeLimit": "10Gi"}} for disk in disks],
        affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        nodeSelector={"kubevirt.io/schedulable": "true"},
    )


def _container(name: str, limits: dict[str, str]) -> Json:
    return {
        "name": name,
        "image": f"registry.example.com/vision/{name}:1.42.0",
        "resources": {"limits": limits, "requests": dict(limits)},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _pod(metadata: Json, containers: list[Json], **more: Any) -> Json:
    spec = {
        "containers": containers,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    fields = {
        f"f:{part}": _fields(value) for part, value in {"metadata": metadata, "spec": spec | more}.items()
    }
    managed = {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-11-28T19:03:16Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    owned = metadata | {"managedFields": [managed]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": owned, "spec": spec | more, "status": {}}


def _fields(value: Any) -> Json:
    """Who owns which field, as the API server writes it into an object before it calls webhooks: a third of a review."""
    if isinstance(value, dict):
        return {f"f:{key}": _fields(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0]:
        return {f'k:{{"name":"{item["name"]}"}}': {".": {}} | _fields(item) for item in value}
    return {}
