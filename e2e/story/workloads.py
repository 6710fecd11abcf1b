"""What users bring: vGPU pods and virtual machines, and the pool that an administrator writes."""

from e2e.controlplane.client import Json

WORKLOAD_IMAGE = "localhost/workload:1"
NAMESPACE = "lab"
VM_RESOURCE = "emulated.poolmgr.io/BOCHS_DISPLAY"
"""What the agent calls the emulated GPU; a VM asks for it as it would for nvidia.com/GA102GL_A10."""
DEVICE_VARIABLE = "PCI_RESOURCE_EMULATED_POOLMGR_IO_BOCHS_DISPLAY"
"""Where a launcher finds the address of that resource: KubeVirt's contract."""
VM_SELECTOR = "1234:1111"
"""Vendor and device of QEMU's bochs-display, for KubeVirt's permit list."""

GPU_ON_THE_BUS = "PCI device 1234:1111"
"""How the monitor of the launcher's nested QEMU names the GPU that it was given."""


def vgpu_pod(name: str, node: str, *, memory_mib: int = 3000, cores: int = 30) -> Json:
    """A pod with a slice of one GPU, to be placed on `node` by HAMi."""
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(memory_mib), "nvidia.com/gpucores": str(cores)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": WORKLOAD_IMAGE, "resources": {"limits": limits}}],
        },
    }


def pool(*, cooldown_seconds: int = 0, mode: str = "Automatic", shared_min: int = 0) -> Json:
    """One pool over every GPU; VMs may have all but `shared_min` of them."""
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": "all"},
        "spec": {
            "passthrough": {"min": 0},
            "shared": {"min": shared_min},
            "rebalance": {
                "mode": mode,
                "cooldownSeconds": cooldown_seconds,
                "maxInFlight": 1,
                "eviction": "Never",
            },
        },
    }
