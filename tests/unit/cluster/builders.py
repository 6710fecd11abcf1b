"""JSON objects as the API server sends them, with defaults that a test overrides."""

import json
from typing import Any, TypeVar

import msgspec

from poolmgr import wire

T = TypeVar("T")
Json = dict[str, Any]

CREATED = "2026-11-22T10:00:00Z"
CREATED_AT = 1795341600.0
GPU_A = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
GPU_B = "GPU-bbbbbbbb-0000-0000-0000-000000000000"
A10 = "nvidia.com/GA102GL_A10"


def as_wire(document: Json, kind: type[T]) -> T:
    return msgspec.json.decode(json.dumps(document), type=kind)


def node(name: str = "n1", **over: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": over.get("labels", {"kubernetes.io/hostname": name, "gpu": "on"}),
            "annotations": over.get("annotations", {}),
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {"unschedulable": True} if over.get("unschedulable") else {},
        "status": {
            "allocatable": {
                "cpu": "15500m",
                "memory": "64Gi",
                "nvidia.com/gpu": "20",
                **over.get("allocatable", {}),
            },
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if over.get("ready", True) else "False",
                    "lastHeartbeatTime": over.get("heartbeat", CREATED),
                }
            ],
        },
    }


def device(pci_address: str = "0000:00:04.0", **over: Any) -> Json:
    return {
        "pciAddress": pci_address,
        "uuid": GPU_A,
        "model": "NVIDIA A10",
        "memoryMiB": 23028,
        "driver": "nvidia",
        "mode": "Shared",
        "phase": "Ready",
        "iommuGroup": 12,
        "resourceName": A10,
        "modeSince": CREATED,
        "rebind": {"possible": True},
        **over,
    }


def gpu_node(name: str = "n1", devices: list[Json] | None = None, **over: Any) -> Json:
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUNode",
        "metadata": {
            "name": name,
            "resourceVersion": over.get("revision", "7"),
            "generation": over.get("generation", 3),
        },
        "spec": over.get("spec", {}),
        "status": {
            "observedGeneration": over.get("observed", 3),
            "devices": [device()] if devices is None else devices,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": CREATED}
            ],
        },
    }


def adopted(name: str, devices: list[Json], **spec: Any) -> Json:
    """A GPUNode of which the manager has adopted every GPU in the mode that it is in."""
    wanted = [{"pciAddress": d["pciAddress"], "mode": d["mode"], "planId": "adopted"} for d in devices]
    return gpu_node(name, devices, spec={"devices": wanted, **spec})


def pool(name: str = "a10", **over: Any) -> Json:
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name, "generation": 1, "creationTimestamp": over.pop("created", CREATED)},
        "spec": {"models": ["NVIDIA A10"], **over},
    }


def reservation(name: str = "course", namespace: str = "uni", **spec: Any) -> Json:
    window = {"start": "2026-11-22T12:00:00Z", "end": "2026-11-22T14:00:00Z"}
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUReservation",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "creationTimestamp": CREATED,
        },
        "spec": {"model": "NVIDIA A10", "gpus": 2, **window, **spec},
    }


def pod(name: str = "p1", namespace: str = "ml", **over: Any) -> Json:
    limits = over.get("limits", {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "3k"})
    requests = {"cpu": "500m", "memory": "1Gi", **limits}
    status: Json = {"phase": over.get("phase", "Running" if over.get("node") else "Pending")}
    if over.get("node"):
        status["startTime"] = CREATED
    if over.get("unschedulable_since"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "lastTransitionTime": over["unschedulable_since"],
            }
        ]
    if over.get("ready"):
        status.setdefault("conditions", []).append({"type": "Ready", "status": "True"})
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": over.get("uid", f"uid-{namespace}-{name}"),
        "creationTimestamp": CREATED,
        "labels": over.get("labels", {"app": name}),
        "annotations": over.get("annotations", {}),
    }
    if over.get("deleted"):
        metadata["deletionTimestamp"] = CREATED
    if over.get("owner"):
        metadata["ownerReferences"] = [over["owner"]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "schedulerName": over.get("scheduler", "hami-scheduler"),
            "containers": over.get(
                "containers", [{"name": "main", "resources": {"requests": requests, "limits": limits}}]
            ),
            **({"nodeName": over["node"]} if over.get("node") else {}),
            **over.get("spec", {}),
        },
        "status": status,
    }


def launcher(vmi: str = "vm1", namespace: str = "desktops", **over: Any) -> Json:
    return pod(
        f"virt-launcher-{vmi}",
        namespace,
        labels={
            "kubevirt.io": "virt-launcher",
            "kubevirt.io/created-by": f"uid-{vmi}",
            "vm.kubevirt.io/name": vmi,
        },
        limits={A10: "1"},
        scheduler="default-scheduler",
        **{
            "owner": {"kind": "VirtualMachineInstance", "name": vmi, "uid": f"uid-{vmi}", "controller": True},
            **over,
        },
    )


def plugin_pod(node_name: str = "n1", **over: Any) -> Json:
    return pod(
        f"hami-device-plugin-{node_name}",
        "hami",
        node=node_name,
        labels={"app.kubernetes.io/component": "hami-device-plugin"},
        owner={"kind": "DaemonSet", "name": "hami-device-plugin", "uid": "uid-plugin", "controller": True},
        limits={},
        **{"ready": True, **over},
    )


def vmi(name: str = "vm1", namespace: str = "desktops", **over: Any) -> Json:
    gpus = [{"name": f"gpu{i}", "deviceName": d} for i, d in enumerate(over.get("gpus", [A10]))]
    host = [{"name": f"host{i}", "deviceName": d} for i, d in enumerate(over.get("host_devices", []))]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "creationTimestamp": CREATED,
        },
        "spec": {"domain": {"devices": {"gpus": gpus, "hostDevices": host, "disks": []}}},
        "status": {
            "phase": over.get("phase", "Scheduling"),
            "conditions": over.get("conditions", []),
            **({"nodeName": over["node"]} if over.get("node") else {}),
        },
    }


def vm(name: str = "vm1", namespace: str = "desktops", **over: Any) -> Json:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-vm-{name}",
            "creationTimestamp": CREATED,
        },
        "spec": {
            **over.get("run", {"runStrategy": "Always"}),
            "template": {"spec": vmi(**{k: v for k, v in over.items() if k == "gpus"})["spec"]},
        },
        "status": {"printableStatus": over.get("printable", "")},
    }


def budget(name: str = "pdb", namespace: str = "ml", **over: Any) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace, "generation": over.get("generation", 1)},
        "spec": {"selector": over.get("selector", {"matchLabels": {"app": "p1"}})},
        "status": {"disruptionsAllowed": over.get("allowed", 0), "observedGeneration": 1},
    }


def plugin(**over: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "hami-device-plugin", "namespace": "hami", "uid": "uid-plugin"},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/component": "hami-device-plugin"}},
            "template": {
                "spec": {"nodeSelector": over.get("node_selector", {"gpu": "on"}), "containers": []}
            },
        },
    }


def scheduler(tag: str = "v2.10.0", **over: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "hami-scheduler", "namespace": "hami", "labels": over.get("labels", {})},
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {"name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.36.3"},
                        {
                            "name": "vgpu-scheduler-extender",
                            "image": over.get("image", f"projecthami/hami:{tag}"),
                        },
                    ]
                }
            }
        },
    }


def register(*uuids: str, health: bool = True) -> str:
    entries = [
        {"id": u, "count": 10, "devmem": 23028, "devcore": 100, "type": "NVIDIA A10", "mode": "hami-core"}
        | ({"index": i} if i else {})
        | ({"health": True} if health else {})
        for i, u in enumerate(uuids)
    ]
    return json.dumps(entries)


def as_node(**over: Any) -> wire.Node:
    return as_wire(node(**over), wire.Node)


def as_pod(**over: Any) -> wire.Pod:
    return as_wire(pod(**over), wire.Pod)
