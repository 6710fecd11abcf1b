"""Builders of Kubernetes objects and admission requests as the API server sends them."""

import copy
import json
from typing import Any

import msgspec

from poolmgr import wire
from webhooks.decide import read
from webhooks.fleet_reader import FleetReader
from webhooks.fleet_view import FleetView
from webhooks.review import AdmissionRequest, PatchOperation

A10, A10_RESOURCE = "NVIDIA A10", "nvidia.com/GA102GL_A10"
T4, T4_RESOURCE = "Tesla T4", "nvidia.com/TU104GL_TESLA_T4"

Object = dict[str, Any]


def device(index: int, node: str = "n1", mode: str = "Shared", **overrides: Any) -> Object:
    """GPU `index` of `node` as the agent reports it."""
    return {
        "pciAddress": f"0000:00:{index:02x}.0",
        "iommuGroup": index + 1,
        "uuid": f"GPU-{node}-{index}",
        "model": A10,
        "memoryMiB": 23028,
        "resourceName": A10_RESOURCE,
        "mode": mode,
        "phase": "Ready",
        "advertised": mode == "Passthrough",
        "rebind": {"possible": True},
        **overrides,
    }


def gpu_node(
    name: str, *devices: Object, desired: dict[int, str] | None = None, moving: dict[int, str] | None = None
) -> Object:
    """A GPUNode. `desired` overrides the wanted mode by position; `moving` names what a transition moves."""
    moving = moving or {}
    wanted = {index: d["mode"] or "Shared" for index, d in enumerate(devices)}
    wanted |= desired or {}
    wanted |= moving
    spec: Object = {
        "devices": [
            {"pciAddress": d["pciAddress"], "mode": wanted[index], "planId": "p1"}
            for index, d in enumerate(devices)
        ]
    }
    if moving:
        spec["transition"] = {
            "planId": "p1",
            "epoch": 1,
            "toMode": next(iter(moving.values())),
            "devices": [devices[index]["pciAddress"] for index in moving],
            "step": "Drain",
        }
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"observedGeneration": 1, "devices": list(devices)},
    }


def node(
    name: str,
    labels: dict[str, str] | None = None,
    capacity: dict[str, str] | None = None,
    *,
    ready: bool = True,
    **spec: Any,
) -> Object:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {
            "capacity": {"cpu": "8", "memory": "64Gi", **(capacity or {})},
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def gpu_pool(name: str = "a10", **spec: Any) -> Object:
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name, "creationTimestamp": "2026-11-22T10:00:00Z"},
        "spec": spec,
    }


def fleet(
    *gpu_nodes: Object,
    pools: tuple[Object, ...] = (),
    nodes: tuple[Object, ...] = (),
    reservations: tuple[Object, ...] = (),
    now: float = 0.0,
) -> FleetView:
    """The view of these objects; a GPUNode whose Node is not among `nodes` gets a plain one."""
    known = {n["metadata"]["name"] for n in nodes}
    plain = [node(name) for g in gpu_nodes if (name := g["metadata"]["name"]) not in known]
    return FleetReader().read(
        [msgspec.convert(g, wire.GpuNode) for g in gpu_nodes],
        [msgspec.convert(p, wire.GpuPool) for p in pools],
        [msgspec.convert(n, wire.Node) for n in (*nodes, *plain)],
        [msgspec.convert(r, wire.GpuReservation) for r in reservations],
        now=now,
    )


def small_fleet(**pool_spec: Any) -> FleetView:
    """Two nodes with two shared A10 each, one pool."""
    return fleet(
        gpu_node("n1", device(0), device(1)),
        gpu_node("n2", device(0, "n2"), device(1, "n2")),
        pools=(gpu_pool(**pool_spec),),
    )


def pod(
    *containers: Object, annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None
) -> Object:
    metadata: Object = {"name": "train", "namespace": "ml"}
    if annotations is not None:
        metadata["annotations"] = annotations
    if labels is not None:
        metadata["labels"] = labels
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [container()]},
    }


def container(name: str = "main", **limits: str | int) -> Object:
    """Limits by the last part of their name: `gpu=1, gpumem=3000`; `-` is written `_`."""
    return {
        "name": name,
        "image": "busybox",
        "resources": {"limits": {f"nvidia.com/{k.replace('_', '-')}": str(v) for k, v in limits.items()}},
    }


def vmi(
    *gpus: str, host_devices: tuple[str, ...] = (), name: str = "desk-1", metadata: Object | None = None
) -> Object:
    devices: Object = {}
    if gpus:
        devices["gpus"] = [{"name": f"gpu{i}", "deviceName": g} for i, g in enumerate(gpus)]
    if host_devices:
        devices["hostDevices"] = [{"name": f"dev{i}", "deviceName": d} for i, d in enumerate(host_devices)]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "desktops", **(metadata or {})},
        "spec": {"domain": {"devices": devices}},
    }


def vm(*gpus: str, run_strategy: str = "Always", **more: Any) -> Object:
    instance = vmi(*gpus, **more)
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": instance["metadata"],
        "spec": {"runStrategy": run_strategy, "template": {"spec": instance["spec"]}},
    }


def request(new: Object, old: Object | None = None, operation: str = "") -> AdmissionRequest:
    """Read from a body as the endpoint reads it: a decision that needs a field which is not read fails its tests."""
    metadata = new.get("metadata", {})
    asked = {
        "uid": "3f1c",
        "operation": operation or ("UPDATE" if old else "CREATE"),
        "namespace": metadata.get("namespace", ""),
        "name": metadata.get("name", ""),
        "object": new,
        "oldObject": old,
    }
    kind = f"{new['kind'].lower()}s" if "kind" in new else ""
    return read(kind, json.dumps({"request": asked}).encode())


def applied(patch: tuple[PatchOperation, ...], object_: Object) -> Object:
    """`object_` after RFC 6902 `add`s, as strict as the API server: each parent must be there and no null."""
    result = copy.deepcopy(object_)
    for operation in patch:
        assert operation.keys() == {"op", "path", "value"}
        assert operation["op"] == "add"
        *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:])
        here: Any = result
        for part in parents:
            here = here[int(part)] if isinstance(here, list) else here[part]
        value = copy.deepcopy(operation["value"])
        if isinstance(here, list):
            here.insert(len(here) if last == "-" else int(last), value)
        else:
            assert isinstance(here, dict)
            here[last] = value
    return result


def launcher(resource: str = A10_RESOURCE, gpus: int = 1, namespace: str = "desktops") -> Object:
    """A virt-launcher pod as KubeVirt creates it, as far as admission looks at it."""
    compute = {"name": "compute", "resources": {"limits": {resource: str(gpus)}}}
    found = pod(compute, labels={"kubevirt.io": "virt-launcher"})
    found["metadata"].update(name="virt-launcher-desk-1", namespace=namespace)
    return found
