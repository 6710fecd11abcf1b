"""Who is on which GPU: pods by the slices that they hold, VMs by the devices that the kubelet gave them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import User, in_use, users_of

PodsByGpu = Mapping[GpuUuid, Sequence[SharedPod]]


class IndexedPods(tuple[SharedPod, ...]):
    """A snapshot's pods together with who is on each GPU, for those who keep that up to date anyway. A group that is
    as it was in the snapshot before is the very same value."""

    by_gpu: PodsByGpu

    @classmethod
    def of(cls, pods: Sequence[SharedPod], by_gpu: PodsByGpu) -> "IndexedPods":
        """`by_gpu` must be what `pods_by_gpu` would make of `pods`."""
        indexed = cls(pods)
        indexed.by_gpu = by_gpu
        return indexed


def pods_by_gpu(pods: tuple[SharedPod, ...]) -> PodsByGpu:
    """Pods with a slice of each GPU, in the order of `pods`. O(slices), unless they bring it along."""
    if isinstance(pods, IndexedPods):
        return pods.by_gpu
    found: dict[GpuUuid, list[SharedPod]] = {}
    for pod in pods:
        for part in pod.slices:
            there = found.get(part.uuid)
            if there is None:
                found[part.uuid] = [pod]
            elif there[-1] is not pod:
                there.append(pod)
    return found


@dataclass(slots=True)
class Occupancy:
    """Indexes over one snapshot. Build with `occupancy_of`."""

    pods_by_gpu: PodsByGpu
    """Bound to the node yet or not: HAMi assigns a GPU before it binds."""
    vms_by_node: dict[NodeName, dict[PciAddress, Vm]]
    """By the devices that the kubelet gave them."""
    vm_by_launcher: dict[str, Vm]

    def vm_on(self, gpu: Gpu) -> Vm | None:
        return self.vms_by_node.get(gpu.node, {}).get(gpu.pci_address) or (
            self.vm_by_launcher.get(gpu.allocated_to) if gpu.allocated_to else None
        )

    def pods_on(self, gpu: Gpu) -> Sequence[SharedPod]:
        return self.pods_by_gpu.get(gpu.uuid, ()) if gpu.uuid else ()

    def in_use(self, gpu: Gpu) -> bool:
        """See `usage.in_use`."""
        return in_use(gpu, self.pods_on(gpu), self.vm_on(gpu))

    def users_of(self, gpu: Gpu) -> tuple[User, ...]:
        """See `usage.users_of`."""
        return users_of(gpu, self.pods_on(gpu), self.vm_on(gpu))


def occupancy_of(snapshot: ClusterSnapshot) -> Occupancy:
    """O(VMs + slices)."""
    vms_by_node: dict[NodeName, dict[PciAddress, Vm]] = {}
    vm_by_launcher: dict[str, Vm] = {}
    for vm in snapshot.vms:
        if vm.launcher_uid:
            vm_by_launcher[vm.launcher_uid] = vm
        for node, address in vm.devices:
            vms_by_node.setdefault(node, {})[PciAddress(address)] = vm
    return Occupancy(pods_by_gpu(snapshot.pods), vms_by_node, vm_by_launcher)


class Tenants(NamedTuple):
    """Who is on a node."""

    pods: tuple[Sequence[SharedPod] | None, ...]
    """On each GPU."""
    vms: dict[PciAddress, Vm] | None
    launched: tuple[Vm | None, ...]
    """VMs that are known by their launcher pod, for each GPU that the kubelet gave to one."""


class Names(NamedTuple):
    """What pods and VMs know a node's GPUs by."""

    node: NodeName
    uuids: tuple[GpuUuid, ...]
    launchers: tuple[str, ...]

    @classmethod
    def of(cls, node: Node) -> "Names":
        gpus = node.gpus
        launchers = tuple([g.allocated_to for g in gpus if g.allocated_to])
        return cls(node.name, tuple([g.uuid for g in gpus]), launchers)

    def tenants(self, occupancy: Occupancy) -> Tenants:
        return Tenants(
            tuple(map(occupancy.pods_by_gpu.get, self.uuids)),
            occupancy.vms_by_node.get(self.node),
            tuple(map(occupancy.vm_by_launcher.get, self.launchers)),
        )
