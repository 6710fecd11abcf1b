"""The state of a replay, and how a planner sees it: as the domain's own values."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.replay.demand import Demand, FleetPlan
from poolmgr.domain.demand import DeviceClaim, SharedPod, Slice, Vm
from poolmgr.domain.fleet import Gpu, Granularity, Node, Pool, Transition
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress, PoolName, WorkloadUid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import RegisteredGpu, SharingState
from poolmgr.planner.sizing.forecast import EPOCH_MONDAY, bin_of

ORIGIN = EPOCH_MONDAY + 2_900 * 7 * 86_400.0
"""Unix seconds of the window's begin as planners see it: a Monday, as in the session traces."""

CARD_MIB = 24_000
"""Memory of every simulated card: openb tells shares of a card, not MiB, so one size serves all models."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    flip_seconds: float = 60.0
    tick_seconds: float = 10.0
    """A planner is asked so often when something has changed, and at once when a VM comes and finds nothing free, as
    the live loop's watch wakes it."""
    idle_tick_seconds: float = 60.0
    """And so often when nothing has."""
    patience_seconds: float = 300.0
    binds_per_second: float = 5.0
    on_release: bool = False
    """Ask the planner the moment a GPU falls free, before HAMi refills it: how a per-claim allocator that
    sits in the scheduler sees it. False for everything that watches from outside."""
    failures: float = 0.0
    """Chance that a GPU does not change driver: it stays on its side, quarantined, until somebody has mended it.
    The n-th change of one GPU fails under every policy or under none."""
    mending_seconds: float = 4 * 3_600.0
    outages: float = 0.0
    """How often a node goes away, in a day. Its pods begin again, and its VMs' users ask for another VM."""
    outage_seconds: float = 1_800.0


@dataclass(slots=True)
class ReplayGpu:
    index: int
    node: int
    address: PciAddress
    uuid: GpuUuid
    model: int
    mode: Mode
    registered: RegisteredGpu
    """How HAMi knows it while it is shared."""
    mode_since: float = -1e9
    desired: Mode = Mode.SHARED
    fenced: bool = False
    broken: bool = False
    """Quarantined after a change of driver that failed."""
    changes: int = 0
    vm: int = -1
    used_milli: int = 0
    pods: dict[int, None] = field(default_factory=dict)
    view: Gpu | None = None


@dataclass(slots=True)
class ReplayNode:
    name: NodeName
    gpus: list[ReplayGpu]
    nvswitch: bool
    move: Transition | None = None
    closed: bool = False
    """While its GPUs change driver."""
    flips_at: float = 0.0
    """When they will have."""
    lent: bool = False
    """To best-effort pods."""
    away: bool = False
    view: Node | None = None


SLICES = 10
"""HAMi's deviceSplitCount."""


def nodes_of(fleet: FleetPlan, passthrough: int) -> list[ReplayNode]:
    """The fleet with its first `passthrough` GPUs in that mode."""
    nodes: list[ReplayNode] = []
    count = 0
    for n in range(len(fleet.gpus)):
        node = ReplayNode(NodeName(f"node-{n:05d}"), [], bool(fleet.nvswitch[n]))
        model = int(fleet.model[n])
        for g in range(int(fleet.gpus[n])):
            uuid, address = GpuUuid(f"GPU-{n:05d}-{g}"), PciAddress(f"0000:{0x10 + g:02x}:00.0")
            registered = RegisteredGpu(uuid, SLICES, CARD_MIB, 100, fleet.models[model], True)
            gpu = ReplayGpu(count, n, address, uuid, model, Mode.SHARED, registered)
            if count < passthrough:
                gpu.mode = gpu.desired = Mode.PASSTHROUGH
            node.gpus.append(gpu)
            count += 1
        nodes.append(node)
    return nodes


class ReplayFleet:
    """The nodes, and whether anything has changed that a planner could see."""

    def __init__(self, plan: FleetPlan, passthrough: int) -> None:
        self.nodes = nodes_of(plan, passthrough)
        self.gpus = [gpu for node in self.nodes for gpu in node.gpus]
        self._by_address = {(self.nodes[gpu.node].name, gpu.address): gpu for gpu in self.gpus}
        self.dirty = True

    def gpu(self, node: NodeName, address: PciAddress) -> ReplayGpu:
        return self._by_address[(node, address)]

    def soil(self, *gpus: ReplayGpu) -> None:
        """Their and their nodes' views are no longer true. (Pods coming and going do not alter these views.)"""
        for gpu in gpus:
            gpu.view = self.nodes[gpu.node].view = None
        self.dirty = True


def narrow(node: ReplayNode, moving: list[ReplayGpu], pool: Pool) -> list[ReplayGpu]:
    """As the executor does with GPUs that drain for nobody in particular: those that are empty go on alone, the
    others are opened again. Returns those that go on; none where the move has to wait for all."""
    move, together = node.move, node.nvswitch or pool.granularity is Granularity.NODE
    empty = [g for g in moving if not g.pods]
    if move is None or not empty or together or move.reason != Reason.HEADROOM:
        return []
    for gpu in moving:
        if gpu.pods:
            gpu.fenced, gpu.desired = False, gpu.mode
    node.move = replace(move, devices=tuple(g.address for g in empty))
    return empty


def resource_of(model: int) -> str:
    return f"nvidia.com/MODEL_{model}"


def vm_view(
    demand: Demand,
    vm: int,
    gpus: list[ReplayGpu],
    node: NodeName | None,
    now: float,
    asked: float,
) -> Vm:
    """A session as an observer sees it; `asked` is when it was asked for, or again after an outage."""
    at = ORIGIN + asked
    idle_at = ORIGIN + float(demand.vm_start[vm]) + float(demand.vm_idle_after[vm])
    return Vm(
        uid=WorkloadUid(f"vm-{vm:07d}"),
        namespace="desktops",
        name=f"desktop-{vm:07d}",
        claims=(DeviceClaim(resource_of(int(demand.vm_model[vm])), int(demand.vm_gpus[vm])),),
        node=node,
        created_at=at,
        waiting_since=None if gpus else at,
        launcher_uid=f"launcher-{vm:07d}",
        devices=tuple((node, g.address) for g in gpus) if node is not None else (),
        idle_since=idle_at if gpus and idle_at <= ORIGIN + now else None,
    )


def pod_view(
    demand: Demand,
    models: tuple[str, ...],
    pod: int,
    gpu: ReplayGpu | None,
    node: NodeName | None,
    started: float | None,
) -> SharedPod:
    """A pod as an observer sees it."""
    milli, best_effort = int(demand.pod_milli[pod]), bool(demand.pod_best_effort[pod])
    memory, cores = CARD_MIB * milli // 1000, milli // 10
    mask = int(demand.pod_models[pod])
    every = mask == (1 << len(models)) - 1
    return SharedPod(
        uid=WorkloadUid(f"pod-{pod:07d}"),
        namespace="batch",
        name=f"job-{pod:07d}",
        memory_mib=memory,
        cores_percent=cores,
        node=node,
        slices=(Slice(gpu.uuid, memory, cores),) if gpu else (),
        created_at=ORIGIN + float(demand.pod_start[pod]),
        started_at=None if started is None else ORIGIN + started,
        waiting_since=None if gpu else ORIGIN + float(demand.pod_start[pod]),
        models=() if every else tuple(m for n, m in enumerate(models) if mask >> n & 1),
        best_effort=best_effort,
        evictable=best_effort,
    )


def node_view(node: ReplayNode, models: tuple[str, ...], pool: PoolName) -> Node:
    """A node as its agent and HAMi report it."""
    for gpu in node.gpus:
        if gpu.view is None:
            gpu.view = _gpu_view(node, gpu, models, pool)
    gpus = tuple(gpu.view for gpu in node.gpus if gpu.view is not None)
    shared = tuple(g.registered for g in node.gpus if g.mode is Mode.SHARED)
    fenced = frozenset(g.uuid for g in node.gpus if g.fenced)
    return Node(
        name=node.name,
        gpus=gpus,
        ready=not node.away,
        cordoned=node.closed,
        cordoned_by_us=node.closed,
        transition=node.move,
        best_effort_only=node.lent,
        sharing=SharingState((2, 10), True, 1, True, 10 * len(shared), shared, fenced=fenced),
    )


def fails(gpu: ReplayGpu, settings: ReplaySettings) -> bool:
    """Whether the change of driver that has just been tried did not succeed."""
    gpu.changes += 1
    if not settings.failures:
        return False
    return bool(np.random.default_rng((gpu.index, gpu.changes)).random() < settings.failures)


def _phase(gpu: ReplayGpu, node: ReplayNode) -> DevicePhase:
    if gpu.broken:
        return DevicePhase.QUARANTINED
    return DevicePhase.MOVING if gpu.fenced and node.closed else DevicePhase.READY


def _gpu_view(node: ReplayNode, gpu: ReplayGpu, models: tuple[str, ...], pool: PoolName) -> Gpu:
    return Gpu(
        node=node.name,
        pci_address=gpu.address,
        model=models[gpu.model],
        memory_mib=CARD_MIB,
        observed_mode=gpu.mode,
        phase=_phase(gpu, node),
        uuid=gpu.uuid,
        resource_name=resource_of(gpu.model),
        desired_mode=gpu.desired,
        pool=pool,
        iommu_group=gpu.index,
        nvswitch_domain=node.name if node.nvswitch else "",
        allocated_to=f"launcher-{gpu.vm:07d}" if gpu.vm >= 0 else "",
        advertised=gpu.mode is Mode.PASSTHROUGH and gpu.desired is gpu.mode and not gpu.broken,
        mode_since=ORIGIN + gpu.mode_since,
    )


def remembered(demand: Demand, models: tuple[str, ...], pool: Pool) -> Any:
    """What the planner has learned as a manager that has watched the weeks before would hold it; None if none did."""
    groups = {}
    for model, levels in zip(models, demand.weekly_history, strict=False):
        if levels:
            first = bin_of(ORIGIN) - len(levels)
            groups[f"{pool.name}/{model}"] = {"history": {"first": first, "levels": list(levels)}}
    return {"groups": groups} if groups else None
