"""Who is on which GPU: pods by the slices that they hold, VMs by the devices that the kubelet gave them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.doubt import Unplaced, doubts_of, scattered_uuids, unplaced_of
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress
from poolmgr.domain.identity import Same
from poolmgr.domain.snapshot import ClusterSnapshot, Unread
from poolmgr.domain.usage import User, in_use, users_of

PodsByGpu = Mapping[GpuUuid, Sequence[SharedPod]]


class IndexedPods(tuple[SharedPod, ...]):
    """A snapshot's pods together with who is on each GPU, for those who keep that up to date anyway. A group that is
    as it was in the snapshot before is the very same value."""

    by_gpu: PodsByGpu
    loose: tuple[SharedPod, ...]

    @classmethod
    def of(cls, pods: Sequence[SharedPod], by_gpu: PodsByGpu, loose: Sequence[SharedPod]) -> "IndexedPods":
        """`by_gpu` and `loose` must be what `indexed` would make of `pods`."""
        made = cls(pods)
        made.by_gpu, made.loose = by_gpu, tuple(loose)
        return made


def indexed(pods: tuple[SharedPod, ...]) -> tuple[PodsByGpu, Sequence[SharedPod]]:
    """Pods with a slice of each GPU, and those that are loose, in the order of `pods`. O(slices), unless they bring both
    along."""
    if isinstance(pods, IndexedPods):
        return pods.by_gpu, pods.loose
    by_gpu: dict[GpuUuid, list[SharedPod]] = defaultdict(list)
    loose = []
    for pod in pods:
        slices = pod.slices
        if len(slices) == 1:  # nearly all
            by_gpu[slices[0].uuid].append(pod)
        elif slices:
            for uuid in dict.fromkeys(part.uuid for part in slices):
                by_gpu[uuid].append(pod)
        elif pod.node is not None:
            loose.append(pod)
    return dict(by_gpu), loose


def is_loose(pod: SharedPod) -> bool:
    """Bound to a node without a slice of any of its GPUs."""
    return pod.node is not None and not pod.slices


def unbound_pods(pods: tuple[SharedPod, ...]) -> tuple[SharedPod, ...]:
    """Those of `pods` that are bound to no node. O(pods), once for the very same tuple: of many pods few wait, and each
    stage of a plan asks for these."""
    return _unbound(Same(pods))


def unbound_vms(vms: tuple[Vm, ...]) -> tuple[Vm, ...]:
    """The same of VMs."""
    return _unbound(Same(vms))


# Of a plan's pods and VMs: as observed, with who is over a quota marked, and without these.
@lru_cache(maxsize=6)
def _unbound(same: Same) -> tuple[Any, ...]:
    return tuple([workload for workload in same.values if workload.node is None])


def bound_here(assigned: Sequence[SharedPod] | None, node: NodeName) -> Sequence[SharedPod]:
    """Of the pods assigned to a GPU's UUID, those that are on it: bound to its node, or not bound yet, as HAMi assigns a
    GPU before it binds. A pod that is bound to another node cannot use the GPU, even where both nodes report that UUID;
    which GPUs of its own node it has is for `doubt` to say."""
    here = (None, node)
    return [pod for pod in assigned or () if pod.node in here]


@dataclass(slots=True)
class Occupancy:
    """Indexes over one snapshot. Get it from `occupancy_of`; nobody changes it."""

    assigned: PodsByGpu
    """By the UUIDs that HAMi wrote on pods, wherever they are bound. Who asks for a GPU's pods asks `pods_on`."""
    scattered: frozenset[GpuUuid]
    """See `doubt.scattered_uuids`."""
    vms_by_node: dict[NodeName, dict[PciAddress, Vm]]
    """By the devices that the kubelet gave them."""
    vm_by_launcher: dict[str, Vm]
    unplaced: dict[NodeName, tuple[Unplaced, ...]]
    """Who has GPUs of a node of which nobody says which they are."""

    def vm_on(self, gpu: Gpu) -> Vm | None:
        return self.vms_by_node.get(gpu.node, {}).get(gpu.pci_address) or (
            self.vm_by_launcher.get(gpu.allocated_to) if gpu.allocated_to else None
        )

    def pods_on(self, gpu: Gpu) -> Sequence[SharedPod]:
        """See `bound_here`."""
        assigned = self.assigned.get(gpu.uuid, ())
        return bound_here(assigned, gpu.node) if gpu.uuid in self.scattered else assigned

    def in_use(self, gpu: Gpu) -> bool:
        """See `usage.in_use`."""
        return in_use(gpu, self.pods_on(gpu), self.vm_on(gpu))

    def users_of(self, gpu: Gpu) -> tuple[User, ...]:
        """See `usage.users_of`."""
        return users_of(gpu, self.pods_on(gpu), self.vm_on(gpu))

    def doubts_on(self, node: Node) -> dict[PciAddress, str]:
        """See `doubt.doubts_of`."""
        return doubts_of(node, self.unplaced.get(node.name, ()))


@dataclass(frozen=True, slots=True)
class _Key:
    """A snapshot by the very values that it consists of."""

    nodes: Same
    vms: Same
    pods: Same
    unread: tuple[Unread, ...]
    snapshot: ClusterSnapshot = field(compare=False)


def occupancy_of(snapshot: ClusterSnapshot) -> Occupancy:
    """O(GPUs + VMs + slices), once: whoever asks again about the very same nodes, VMs and pods is given the same
    value. A step of a move asks for each node that moves, and the view hands the same ones out until one of them
    changes."""
    nodes, vms, pods = Same(snapshot.nodes), Same(snapshot.vms), Same(snapshot.pods)
    return _occupancy_of(_Key(nodes, vms, pods, snapshot.unread, snapshot))


@lru_cache(maxsize=2)  # the snapshot that a plan was made of, and the one taken after it
def _occupancy_of(key: _Key) -> Occupancy:
    snapshot = key.snapshot
    vms_by_node, vm_by_launcher = _vms(Same(snapshot.vms))
    by_gpu, loose = indexed(snapshot.pods)
    scattered = scattered_uuids(snapshot.nodes, by_gpu)
    unplaced = unplaced_of(snapshot, loose, by_gpu, scattered)
    if GpuUuid("") in by_gpu:  # no GPU's, and not that of all whose UUID the agent does not know
        by_gpu = {uuid: pods for uuid, pods in by_gpu.items() if uuid}
    return Occupancy(by_gpu, scattered, vms_by_node, vm_by_launcher, unplaced)


@lru_cache(maxsize=2)  # where pods come and go, VMs stay
def _vms(vms: Same) -> tuple[dict[NodeName, dict[PciAddress, Vm]], dict[str, Vm]]:
    """By node and device, and by launcher pod."""
    by_node: dict[NodeName, dict[PciAddress, Vm]] = {}
    by_launcher: dict[str, Vm] = {}
    for vm in vms.values:
        if vm.launcher_uid:
            by_launcher[vm.launcher_uid] = vm
        for node, address in vm.devices:
            there = by_node.get(node)
            if there is None:
                there = by_node[node] = {}
            there[PciAddress(address)] = vm
    return by_node, by_launcher


class Tenants(NamedTuple):
    """Who is on a node."""

    node: NodeName
    assigned: tuple[Sequence[SharedPod] | None, ...]
    """To the UUID of each GPU, as HAMi has it: equal ones mean equal `pods`, and are cheaper to compare."""
    vms: dict[PciAddress, Vm] | None
    launched: tuple[Vm | None, ...]
    """VMs that are known by their launcher pod, for each GPU that the kubelet gave to one."""

    @property
    def pods(self) -> tuple[Sequence[SharedPod], ...]:
        """On each GPU, see `bound_here`."""
        return tuple([bound_here(pods, self.node) for pods in self.assigned])


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
            self.node,
            tuple(map(occupancy.assigned.get, self.uuids)),
            occupancy.vms_by_node.get(self.node),
            tuple(map(occupancy.vm_by_launcher.get, self.launchers)),
        )
