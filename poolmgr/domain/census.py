"""Counting: how a snapshot's GPUs are used, per pool and model, and who waits.

The same numbers feed `GPUPool.status`, the API, the metrics, the ledger's samples and the dashboard, so that
they never disagree.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress, PoolName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.snapshot import ClusterSnapshot

FULL_CARD_PERCENT = 100


class GpuState(StrEnum):
    """What a person wants to know of a GPU at a glance; exactly one holds."""

    IN_USE = "InUse"
    IDLE = "Idle"
    MOVING = "Moving"
    TROUBLE = "Trouble"


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU with the workloads that are on it."""

    gpu: Gpu
    state: GpuState
    vm: Vm | None
    pods: tuple[SharedPod, ...]
    share: float
    """Part of the card given away, 0 to 1: the larger of its memory and its compute; 1 for a VM."""


@dataclass(frozen=True, slots=True)
class Count:
    """GPUs and workloads of one pool and model. A moving GPU counts on neither side."""

    gpus: int = 0
    passthrough: int = 0
    passthrough_used: int = 0
    shared: int = 0
    shared_used: int = 0
    """Shared GPUs with at least one slice given away."""
    shared_share: float = 0.0
    """Sum over the shared GPUs of the part given away, in GPUs."""
    moving: int = 0
    trouble: int = 0
    running_vms: int = 0
    running_pods: int = 0
    waiting_vms: int = 0
    waiting_pods: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Count)))

    @property
    def used(self) -> float:
        """GPUs' worth of work: whole cards in VMs plus the parts given to containers."""
        return self.passthrough_used + self.shared_share


def gpu_uses(snapshot: ClusterSnapshot) -> tuple[GpuUse, ...]:
    """Every GPU of the snapshot, joined with its workloads, in the snapshot's order."""
    pods: dict[tuple[NodeName | None, GpuUuid], list[SharedPod]] = {}
    for pod in snapshot.pods:
        for uuid in {piece.uuid for piece in pod.slices}:
            pods.setdefault((pod.node, uuid), []).append(pod)
    vm_at: dict[tuple[NodeName, str], Vm] = {place: vm for vm in snapshot.vms for place in vm.devices}
    vm_by_launcher = {vm.launcher_uid: vm for vm in snapshot.vms if vm.launcher_uid}
    moving = moving_devices(snapshot)
    uses = []
    for node in snapshot.nodes:
        for gpu in node.gpus:
            vm = vm_at.get((node.name, gpu.pci_address)) or vm_by_launcher.get(gpu.allocated_to)
            on_it = tuple(pods.get((node.name, gpu.uuid), ())) if gpu.uuid else ()
            busy = vm is not None or bool(on_it) or bool(gpu.allocated_to)
            state = _state(gpu, busy, (node.name, gpu.pci_address) in moving)
            share = 1.0 if gpu.observed_mode is Mode.PASSTHROUGH and busy else _share(gpu, on_it)
            uses.append(GpuUse(gpu, state, vm, on_it, share))
    return tuple(uses)


def moving_devices(snapshot: ClusterSnapshot) -> frozenset[tuple[NodeName, PciAddress]]:
    """The GPUs that a transition names."""
    return frozenset((move.node, device) for move in snapshot.transitions for device in move.devices)


def _state(gpu: Gpu, busy: bool, in_transition: bool) -> GpuState:
    if gpu.phase in (DevicePhase.QUARANTINED, DevicePhase.FOREIGN):
        return GpuState.TROUBLE
    if in_transition or gpu.phase is DevicePhase.MOVING:
        return GpuState.MOVING
    if gpu.phase is DevicePhase.UNBOUND or gpu.observed_mode is None:
        return GpuState.TROUBLE
    return GpuState.IN_USE if busy else GpuState.IDLE


def _share(gpu: Gpu, pods: Iterable[SharedPod]) -> float:
    pieces = [piece for pod in pods for piece in pod.slices if piece.uuid == gpu.uuid]
    if not pieces:
        return 0.0
    memory = sum(piece.memory_mib for piece in pieces) / gpu.memory_mib if gpu.memory_mib else 0.0
    compute = sum(piece.cores_percent for piece in pieces) / FULL_CARD_PERCENT
    return min(1.0, max(memory, compute))


def count_pools(snapshot: ClusterSnapshot) -> dict[tuple[PoolName | None, str], Count]:
    """Counts by (pool, model); the pool is None for GPUs that no pool selects.

    A waiting workload counts once: at the first pool and model that could serve it, in sorted order, or at
    (None, "") when no GPU of the cluster could.
    """
    counts: dict[tuple[PoolName | None, str], Count] = {}
    for use in gpu_uses(snapshot):
        key = (use.gpu.pool, use.gpu.model)
        counts[key] = counts.get(key, Count()) + _count_gpu(use)
    for key, count in _running(snapshot):
        counts[key] = counts.get(key, Count()) + count
    for key, count in _waiting(snapshot):
        counts[key] = counts.get(key, Count()) + count
    return counts


def count_pool(snapshot: ClusterSnapshot, pool: PoolName) -> Count:
    """All models of one pool together."""
    return sum((c for (name, _), c in count_pools(snapshot).items() if name == pool), Count())


def _count_gpu(use: GpuUse) -> Count:
    if use.state is GpuState.TROUBLE:
        return Count(gpus=1, trouble=1)
    if use.state is GpuState.MOVING:
        return Count(gpus=1, moving=1)
    used = int(use.state is GpuState.IN_USE)
    if use.gpu.observed_mode is Mode.PASSTHROUGH:
        return Count(gpus=1, passthrough=1, passthrough_used=used)
    return Count(gpus=1, shared=1, shared_used=used, shared_share=use.share)


_Key = tuple[PoolName | None, str]


def _running(snapshot: ClusterSnapshot) -> Iterable[tuple[_Key, Count]]:
    by_uuid = {(g.node, g.uuid): g for n in snapshot.nodes for g in n.gpus if g.uuid}
    by_place = {(g.node, str(g.pci_address)): g for n in snapshot.nodes for g in n.gpus}
    for vm in snapshot.vms:
        if not vm.waiting:
            gpu = next((by_place[place] for place in vm.devices if place in by_place), None)
            yield (gpu.pool, gpu.model) if gpu else _key_of_resource(snapshot, vm), Count(running_vms=1)
    for pod in snapshot.pods:
        if pod.node is not None:
            found = (by_uuid.get((pod.node, piece.uuid)) for piece in pod.slices)
            gpu = next((g for g in found if g is not None), None)
            if gpu is not None:
                yield (gpu.pool, gpu.model), Count(running_pods=1)


def _waiting(snapshot: ClusterSnapshot) -> Iterable[tuple[_Key, Count]]:
    for vm in snapshot.vms:
        if vm.waiting:
            yield _key_of_resource(snapshot, vm), Count(waiting_vms=1)
    waiting_pods = [pod for pod in snapshot.pods if pod.waiting]
    if waiting_pods:
        kinds = sorted({(str(g.pool or ""), g.model) for n in snapshot.nodes for g in n.gpus})
        for pod in waiting_pods:
            fits = next((k for k in kinds if pod.accepts(k[1], GpuUuid(""))), None)
            yield (
                (PoolName(fits[0]) if fits and fits[0] else None, fits[1] if fits else ""),
                Count(waiting_pods=1),
            )


def _key_of_resource(snapshot: ClusterSnapshot, vm: Vm) -> _Key:
    names = {claim.resource_name for claim in vm.claims}
    gpus = (g for n in snapshot.nodes for g in n.gpus if g.resource_name in names)
    return min(((g.pool, g.model) for g in gpus), key=lambda k: (k[0] or "", k[1]), default=(None, ""))
