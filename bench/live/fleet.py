"""What the fleet consists of, as the JSON that the API server is given. Pure: equal sizes give equal objects.

Every node has GPUs of one model. A quarter of them are in passthrough with a VM on each, one is shared and idle, and
the others are shared by pods. So a new VM finds nothing free and needs a GPU to be moved. One pod in a hundred and one
VM wait for what the fleet cannot give, as somewhere somebody always does.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from poolmgr.domain.identifiers import NodeName
from poolmgr.wire.lease import AGENT_LABEL, AGENT_LABEL_VALUE, agent_lease_name

Json = dict[str, Any]

SYSTEM = "hami-system"
"""Namespace of HAMi and of everything else that is no workload."""
AGENTS = "poolmgr-system"
"""Namespace of manager and agents."""
CREATED = "2026-11-02T08:00:00Z"
GPU_LABEL = ("gpu", "on")
"""HAMi's chart selects nodes for its plugin by it."""
HAMI_VERSION = "2.10.0"
SPLIT = 10
"""Slices that HAMi registers of each GPU, its default."""
ORDINARY_PER_NODE = 2
"""Pods without a GPU; the first is HAMi's device plugin."""
WAITING_SHARE = 100
"""One pod in so many waits."""


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    memory_mib: int
    resource: str


MODELS = (
    Model("NVIDIA A10", 23_028, "nvidia.com/GA102GL_A10"),
    Model("NVIDIA L40S", 46_068, "nvidia.com/AD102GL_L40S"),
    Model("NVIDIA A100-SXM4-80GB", 81_920, "nvidia.com/GA100_A100_SXM4_80GB"),
)


@dataclass(frozen=True, slots=True)
class Size:
    nodes: int
    gpus: int
    """On each node."""
    pods: int
    """All of them: sharing ones, launchers of VMs, waiting ones, those without a GPU."""

    @property
    def vms_per_node(self) -> int:
        return max(1, self.gpus // 4)

    @property
    def busy_per_node(self) -> int:
        """Shared GPUs with pods."""
        return self.gpus - self.vms_per_node - 1

    @property
    def waiting(self) -> int:
        return self.pods // WAITING_SHARE

    @property
    def sharing(self) -> int:
        """Running pods with a slice of a GPU: what is left of `pods`."""
        return self.pods - self.waiting - self.nodes * (self.vms_per_node + ORDINARY_PER_NODE)

    def check(self) -> None:
        """Raises ValueError where the numbers do not go together."""
        if self.gpus < 4 or self.nodes < 1:
            raise ValueError("a fleet has at least one node, and each at least 4 GPUs")
        least = self.nodes * (self.vms_per_node + ORDINARY_PER_NODE + self.busy_per_node)
        if self.pods - self.waiting < least + 1:
            raise ValueError(f"{self.nodes} nodes of {self.gpus} GPUs need more than {least} pods")
        if self.sharing > SPLIT * self.busy_per_node * self.nodes:
            raise ValueError(f"{self.pods} pods are more than {SPLIT} on each shared GPU")


def node_name(node: int) -> str:
    return f"gpu-{node:05d}"


def model_of(node: int) -> Model:
    return MODELS[node % len(MODELS)]


def pci_address(gpu: int) -> str:
    return f"0000:{0x10 + gpu:02x}:00.0"


def uuid_of(node: int, gpu: int) -> str:
    return f"GPU-{node:08x}-{gpu:04x}-4000-8000-0123456789ab"


def register(node: int, gpus: Iterable[int]) -> str:
    """HAMi's annotation of the GPUs that its plugin has found."""
    model = model_of(node)
    return json.dumps(
        [
            {
                "id": uuid_of(node, gpu),
                "index": gpu,
                "count": SPLIT,
                "devmem": model.memory_mib,
                "devcore": 100,
                "type": model.name,
                "numa": gpu // 4,
                "mode": "hami-core",
                "health": True,
            }
            for gpu in gpus
        ],
        separators=(",", ":"),
    )


def kubernetes_node(size: Size, node: int) -> Json:
    """As a kubelet registers it, with the images that real ones list too."""
    name, shared = node_name(node), range(size.vms_per_node, size.gpus)
    amounts = {
        "cpu": "128",
        "memory": "1056Gi",
        "ephemeral-storage": "1Ti",
        "pods": "250",
        "nvidia.com/gpu": str(SPLIT * len(shared)),
        model_of(node).resource: str(size.vms_per_node),
    }
    images = [
        {"names": [f"registry.example/team/{name}-image-{n}@sha256:{n:064x}"], "sizeBytes": 1_000_000 * n}
        for n in range(20)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": f"zone-{node % 3}",
                GPU_LABEL[0]: GPU_LABEL[1],
            },
            "annotations": {
                "hami.io/node-nvidia-register": register(node, shared),
                "hami.io/node-handshake": "Requesting_2026-11-02 08:00:00",
            },
        },
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "images": images,
            "conditions": [
                _condition("MemoryPressure", "False"),
                _condition("DiskPressure", "False"),
                _condition("Ready", "True"),
            ],
        },
    }


def _condition(kind: str, status: str) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": f"Kubelet{kind}",
        "message": "as the kubelet says",
        "lastHeartbeatTime": CREATED,
        "lastTransitionTime": CREATED,
    }


def gpu_node(size: Size, node: int) -> Json:
    """A GPUNode of which the manager has adopted every GPU before."""
    devices = [
        {"pciAddress": pci_address(gpu), "mode": mode_of(size, gpu), "planId": "adopted"}
        for gpu in range(size.gpus)
    ]
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUNode",
        "metadata": {"name": node_name(node)},
        "spec": {"devices": devices},
    }


def heartbeat(node: int) -> Json:
    """The Lease of the node's agent, as it was last renewed long ago."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": agent_lease_name(NodeName(node_name(node))),
            "labels": {AGENT_LABEL: AGENT_LABEL_VALUE},
        },
        "spec": {"holderIdentity": node_name(node), "renewTime": "2026-11-02T08:00:00.000000Z"},
    }


def mode_of(size: Size, gpu: int) -> str:
    return "Passthrough" if gpu < size.vms_per_node else "Shared"


def device(size: Size, node: int, gpu: int, launcher: str = "") -> Json:
    """What the agent reports of one GPU; `launcher` is the UID of the pod that the kubelet gave it to."""
    model, passthrough = model_of(node), gpu < size.vms_per_node
    return {
        "pciAddress": pci_address(gpu),
        "uuid": uuid_of(node, gpu),
        "model": model.name,
        "memoryMiB": model.memory_mib,
        "mode": mode_of(size, gpu),
        "phase": "Ready",
        "planId": "adopted",
        "iommuGroup": 20 + gpu,
        "numaNode": gpu // 4,
        "resourceName": model.resource,
        "modeSince": CREATED,
        "rebind": {"possible": True},
        "advertised": passthrough,
        **({"allocatedTo": launcher} if launcher else {}),
    }


def node_status(generation: int, devices: list[Json]) -> Json:
    return {
        "observedGeneration": generation,
        "devices": devices,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "the agent is at work",
                "lastTransitionTime": CREATED,
            }
        ],
    }


def pools() -> list[Json]:
    """Two pools, one of them of two models; both may evict best-effort pods."""
    return [
        _pool("desktops", [MODELS[0].name, MODELS[1].name]),
        _pool("training", [MODELS[2].name]),
    ]


def _pool(name: str, models: list[str]) -> Json:
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {
            "models": models,
            "rebalance": {"mode": "Automatic", "eviction": "BestEffort", "maxInFlight": 64},
        },
    }


def hami() -> list[Json]:
    """HAMi's plugin DaemonSet and its scheduler's Deployment: the manager reads versions and selectors off them."""
    plugin, scheduler = "hami-device-plugin", "hami-scheduler"
    return [
        _workload("DaemonSet", plugin, "device-plugin", {"nodeSelector": dict([GPU_LABEL])}),
        _workload("Deployment", scheduler, "vgpu-scheduler-extender", {}),
    ]


def _workload(kind: str, component: str, container: str, spec: Json) -> Json:
    labels = {"app.kubernetes.io/component": component, "app.kubernetes.io/version": HAMI_VERSION}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": component, "namespace": SYSTEM, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": component}},
            "template": {
                "metadata": {"labels": {"app": component}},
                "spec": {
                    **spec,
                    "containers": [{"name": container, "image": f"registry.example/hami:v{HAMI_VERSION}"}],
                },
            },
        },
    }


def kubevirt_crds() -> list[Json]:
    """KubeVirt's two kinds without their schemas: the manager only reads them, and nobody else does here."""
    return [_crd("VirtualMachine"), _crd("VirtualMachineInstance")]


def _crd(kind: str) -> Json:
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kubevirt.io"},
        "spec": {
            "group": "kubevirt.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
