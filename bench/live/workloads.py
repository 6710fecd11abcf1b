"""Pods and VMs of the fleet, as the JSON that the API server is given. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.live.fleet import CREATED, SPLIT, SYSTEM, Json, Model, Size, model_of, node_name, uuid_of

PODS, MACHINES = "ml", "desktops"
"""Namespaces: of pods that share GPUs, of VMs."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a pod that shares a GPU sits."""

    node: int
    gpu: int
    mib: int
    cores: int


def slots(size: Size) -> Iterator[Slot]:
    """Where the running pods that share GPUs sit: the first on every shared GPU but the idle one, then the second."""
    places = size.nodes * size.busy_per_node
    for n in range(size.sharing):
        node, gpu = divmod(n % places, size.busy_per_node)
        yield Slot(node, size.vms_per_node + gpu, model_of(node).memory_mib // SPLIT, 100 // SPLIT)


def churning(size: Size) -> range:
    """Numbers of the slots whose pods come and go: every one that is not alone on its GPU, or the last."""
    places = size.nodes * size.busy_per_node
    return range(min(places, size.sharing - 1), size.sharing)


def sharing_pod(name: str, slot: Slot, *, placed: bool = True) -> Json:
    """A pod with a slice; `placed`: HAMi's scheduler has chosen its GPU and bound it."""
    pod = _pod(PODS, name, cpu="2", memory="8Gi")
    pod["metadata"]["annotations"]["poolmgr.io/best-effort"] = "true" if slot.gpu % 2 else "false"
    pod["metadata"]["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "Job", "name": name.rsplit("-", 1)[0], "uid": f"job-{name}"}
    ]
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    limits |= {
        "nvidia.com/gpu": "1",
        "nvidia.com/gpumem": str(slot.mib),
        "nvidia.com/gpucores": str(slot.cores),
    }
    pod["spec"]["schedulerName"] = "hami-scheduler"
    if placed:
        pod["metadata"]["annotations"] |= assignment(slot)
        pod["spec"]["nodeName"] = node_name(slot.node)
    return pod


def assignment(slot: Slot) -> dict[str, str]:
    """What HAMi's scheduler and plugin write on a pod that they have placed."""
    given = f"{uuid_of(slot.node, slot.gpu)},NVIDIA,{slot.mib},{slot.cores}:;"
    return {
        "hami.io/vgpu-node": node_name(slot.node),
        "hami.io/vgpu-time": "1762070400",
        "hami.io/vgpu-devices-allocated": given,
        "hami.io/vgpu-devices-to-allocate": ";",
        "hami.io/bind-phase": "success",
        "hami.io/bind-time": "1762070400",
    }


def waiting_pod(size: Size, number: int) -> Json:
    """One that asks for more shared GPUs than any node has."""
    pod = sharing_pod(f"large-{number:05d}", Slot(0, 0, 0, 50), placed=False)
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    del limits["nvidia.com/gpumem"]
    limits["nvidia.com/gpu"] = str(size.gpus)
    return pod


def ordinary_pod(node: int, number: int) -> Json:
    """A pod without a GPU; number 0 is HAMi's device plugin."""
    name = f"{'hami-device-plugin' if number == 0 else f'daemon-{number}'}-{node:05d}"
    pod = _pod(SYSTEM, name, cpu="100m", memory="200Mi")
    pod["spec"]["nodeName"] = node_name(node)
    if number == 0:
        pod["metadata"]["labels"]["app.kubernetes.io/component"] = "hami-device-plugin"
    return pod


RUNNING = {
    "status": {
        "phase": "Running",
        "startTime": CREATED,
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": CREATED},
            {"type": "Ready", "status": "True", "lastTransitionTime": CREATED},
        ],
    }
}


def launcher_pod(name: str, instance_uid: str, model: Model, node: int | None) -> Json:
    """A VM's virt-launcher, bound where `node` says."""
    pod = _pod(MACHINES, f"virt-launcher-{name}", cpu="4", memory="17Gi")
    pod["metadata"]["labels"] |= {
        "kubevirt.io": "virt-launcher",
        "kubevirt.io/created-by": instance_uid,
        "vm.kubevirt.io/name": name,
    }
    owner = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "name": name,
        "uid": instance_uid,
    }
    pod["metadata"]["ownerReferences"] = [owner | {"controller": True}]
    pod["spec"]["containers"][0]["resources"]["limits"][model.resource] = "1"
    if node is not None:
        pod["spec"]["nodeName"] = node_name(node)
    return pod


def machine(name: str, resource: str) -> Json:
    """A VirtualMachine that is to run at once."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": MACHINES},
        "spec": {"runStrategy": "Always", "template": {"spec": _guest(resource)}},
    }


def instance(name: str, resource: str, node: int | None) -> Json:
    """A VirtualMachineInstance, running where `node` says."""
    status = {"phase": "Scheduling"} if node is None else {"phase": "Running", "nodeName": node_name(node)}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": MACHINES},
        "spec": _guest(resource),
        "status": status,
    }


def _guest(resource: str) -> Json:
    gpus = [{"name": "gpu", "deviceName": resource}]
    return {"domain": {"cpu": {"cores": 4}, "devices": {"gpus": gpus}, "memory": {"guest": "16Gi"}}}


def _pod(namespace: str, name: str, *, cpu: str, memory: str) -> Json:
    environment = [{"name": f"SETTING_{n}", "value": f"value-{n}-of-{name}"} for n in range(6)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": name.rsplit("-", 1)[0], "team": "vision"},
            "annotations": {},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/team/program:1",
                    "env": environment,
                    "resources": {
                        "limits": {"cpu": cpu, "memory": memory},
                        "requests": {"cpu": cpu, "memory": memory},
                    },
                }
            ],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }
