"""One node's GPUs sorted into what a planner may pick from: free, on their way, idle, busy, or kept where they are.

Every GPU ends up in exactly one place; stages only ever pick from the inventory, so what the rules of
`domain.denials` refuse cannot be moved by any planner built on it. Sentences are made later, by `explain`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from poolmgr.domain.denials import Denial, gpu_denial, node_denial
from poolmgr.domain.fleet import Gpu, Granularity, Node, Pool, RebalanceMode
from poolmgr.domain.identifiers import PciAddress, WorkloadUid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.plan import Refusal
from poolmgr.domain.usage import (
    held_by_others,
    in_use,
    is_in_flight,
    is_open,
    is_out_of_use,
    on_either_side,
)
from poolmgr.planner.inventory.usage import Usage

GroupKey = tuple[str, str]
"""(pool name, model)."""


class Unit(NamedTuple):
    """GPUs of one node that can only move together: one, an NVSwitch domain, or a whole node."""

    gpus: tuple[Gpu, ...]
    lost_gpu_seconds: float = 0.0
    """Work that moving it throws away."""
    evict: tuple[WorkloadUid, ...] = ()
    wait_for: tuple[WorkloadUid, ...] = ()
    """Pods that are left to end before it moves."""
    held_until: float = 0.0
    """End of its cooldown, Unix seconds."""

    @property
    def size(self) -> int:
        return len(self.gpus)


@dataclass(slots=True)
class ExplanationCache:
    """What follows from a node, its pods and its VMs alone: filled by who asks first (`inventory`, `explain`)
    and valid for as long as all of them are the same."""

    evictable: list[tuple[Gpu, ...]] | None = None
    """Units in use that neither owner nor budget keeps from being evicted."""
    busy: list[Refusal] | None = None
    """Why each GPU in use stays where it is."""
    idle: list[Refusal] | None = None
    """Why each idle one does, where the decision says `idle_because`."""
    idle_because: tuple[Denial | None, str, bool] = (None, "", False)


@dataclass(slots=True)
class NodeInventory:
    """What one node has of one model of one pool. Its lists are replaced, and so is it once it is sorted, never changed in place:
    the next decision begins with the same ones."""

    node: Node
    free: int = 0
    """Passthrough GPUs that the scheduler can give to a VM now."""
    incoming: int = 0
    """GPUs on their way to passthrough."""
    draining: int = 0
    """GPUs on their way there once their pods have ended."""
    unplaced: int = 0
    """GPUs of VMs bound here whose devices are not yet known."""
    to_passthrough: list[Unit] = field(default_factory=list)
    """Idle shared units."""
    to_shared: list[Unit] = field(default_factory=list)
    """Idle passthrough units; a part of `free`."""
    busy_passthrough: list[Gpu] = field(default_factory=list)
    """GPUs that only a VM keeps where they are."""
    busy_shared: list[tuple[Gpu, ...]] = field(default_factory=list)
    """Units that only their pods keep where they are."""
    explanations: ExplanationCache = field(default_factory=ExplanationCache, compare=False)


@dataclass(frozen=True, slots=True)
class IneligibleGpu:
    """A GPU that a rule keeps where it is."""

    gpu: Gpu
    node: Node
    pool: Pool | None
    partner: Gpu | None = None
    """The member of its bundle that keeps it."""
    denial: Denial | None = None
    """What keeps it, where that is nothing about the GPU itself."""


@dataclass(slots=True)
class NodePart:
    """What one node adds to one group."""

    key: GroupKey
    gpus: list[Gpu]
    at: NodeInventory
    passthrough: int = 0
    shared: int = 0
    unsure: int = 0
    moving: int = 0
    vm_busy: int = 0
    shared_busy: int = 0
    draining: int = 0
    ineligible: list[IneligibleGpu] = field(default_factory=list)


Resources = dict[str, tuple[int, tuple[GroupKey, ...]]]
"""Resource → its GPUs on a node, and the groups that hold them."""


def sort_node(
    node: Node, pools: dict[str, Pool], usage: Usage, now: float
) -> tuple[tuple[NodePart, ...], tuple[IneligibleGpu, ...], Resources]:
    """Sort one node's GPUs; `pools` by name. Of the time only this is asked: who still rests at `now`."""
    members: dict[GroupKey, list[Gpu]] = {}
    counts: dict[str, int] = {}
    keys: dict[str, dict[GroupKey, None]] = {}
    unpooled: list[IneligibleGpu] = []
    for gpu in node.gpus:
        pool = pools.get(gpu.pool) if gpu.pool is not None else None
        if pool is None:
            unpooled.append(IneligibleGpu(gpu, node, None))
            continue
        key = (gpu.pool or "", gpu.model)
        known = members.get(key)
        if known is None:
            members[key] = [gpu]
        else:
            known.append(gpu)
        resource = gpu.resource_name
        if resource:
            counts[resource] = counts.get(resource, 0) + 1
            keys.setdefault(resource, {})[key] = None
    doubts = usage.doubts_on(node)
    parts = tuple(
        _part(key, node, gpus, pools[key[0]], usage, counts, doubts, now) for key, gpus in members.items()
    )
    resources = {name: (count, tuple(keys[name])) for name, count in counts.items()}
    return parts, tuple(unpooled), resources


def no_shared_iommu_group(node: Node) -> bool:
    """True when no two GPUs of the node share an IOMMU group."""
    groups = [g.iommu_group for g in node.gpus if g.iommu_group is not None]
    return len(set(groups)) == len(groups)


def _part(
    key: GroupKey,
    node: Node,
    gpus: list[Gpu],
    pool: Pool,
    usage: Usage,
    resources: dict[str, int],
    doubts: dict[PciAddress, str],
    now: float,
) -> NodePart:
    """Put one node's GPUs of one group where they belong. The hot loop of a decision: attributes are read once
    and no sentence is made here."""
    at = NodeInventory(node)
    part = NodePart(key, gpus, at)
    at.unplaced = sum(
        one.gpus
        for one in usage.unplaced.get(node.name, ())
        if one.side is Mode.PASSTHROUGH and one.names in resources
    )
    usable = is_open(node)
    whole, still = pool.granularity is Granularity.NODE, node_denial(node, now) is not None
    asks = pool.rebalance is RebalanceMode.OFF or node.backoffs or not no_shared_iommu_group(node)
    # Looking a member of an enumeration up takes ten times as long as a local name (Python 3.11).
    passthrough, shared = Mode.PASSTHROUGH, Mode.SHARED
    ready, moving = usable_phases = DevicePhase.READY, DevicePhase.MOVING
    bundles: dict[str, list[tuple[Gpu, bool, bool]]] = {}
    vms = usage.vms_by_node.get(node.name, {})
    for gpu in gpus:
        mode, phase, pods = gpu.observed_mode, gpu.phase, usage.pods_on(gpu)
        wanted = gpu.desired_mode or mode
        busy = in_use(gpu, pods, vms.get(gpu.pci_address))
        arriving = mode is not wanted or phase is moving
        flies = (arriving or node.transition is not None) and is_in_flight(gpu, node)
        part.moving += flies
        counts = (phase is ready and gpu.closed is None) or not is_out_of_use(gpu, busy)
        if counts and wanted is passthrough:
            part.passthrough += 1
            drains = mode is shared
            part.vm_busy += busy and not drains
            if (
                usable
                and (mode is passthrough or flies)
                and (drains or not busy)
                and phase in usable_phases
                and gpu.closed is None
            ):
                if mode is shared and pods:
                    part.draining += 1
                    at.draining += 1
                elif arriving or not gpu.advertised:
                    at.incoming += 1
                else:
                    at.free += 1
        elif counts and wanted is shared:
            part.shared += 1
            part.shared_busy += busy
        unsure = gpu.pci_address in doubts or held_by_others(gpu, pods)
        stays = still or arriving or phase is not ready or unsure
        if not stays and (
            asks or not gpu.rebind.ok or gpu.iommu_group is None or mode is None or gpu.desired_mode is None
        ):
            stays = gpu_denial(gpu, node, pool, now) is not None
        if whole or gpu.nvswitch_domain:
            bundles.setdefault("" if whole else gpu.nvswitch_domain, []).append((gpu, stays, busy))
        elif stays:
            part.ineligible.append(IneligibleGpu(gpu, node, pool))
        elif not busy:
            _idle(part, (gpu,), pool)
        elif mode is shared:
            at.busy_shared.append((gpu,))
        else:
            at.busy_passthrough.append(gpu)
    at.free = max(0, at.free - at.unplaced)
    for bundle in bundles.values():
        _sort_bundle(part, pool, bundle)
    at.to_passthrough.sort(key=unit_order)
    return _without_unsure(part, usage)


def _without_unsure(part: NodePart, usage: Usage) -> NodePart:
    """Take from both sides what may be on either."""
    unsure = on_either_side(part.at.node)
    for gpu in part.gpus if unsure else ():
        if gpu.pci_address in unsure and not is_out_of_use(gpu, usage.in_use(gpu)):
            wanted = gpu.desired_mode or gpu.observed_mode
            part.passthrough -= wanted is Mode.PASSTHROUGH
            part.shared -= wanted is Mode.SHARED
            part.unsure += 1
    return part


def unit_order(unit: Unit) -> tuple[float, float, str]:
    """Least work lost, then longest in its mode, then by address."""
    return (unit.lost_gpu_seconds, unit.held_until, unit.gpus[0].pci_address)


def _idle(part: NodePart, gpus: tuple[Gpu, ...], pool: Pool) -> None:
    at = part.at
    first = gpus[0]
    since = first.mode_since if len(gpus) == 1 else max(g.mode_since for g in gpus)
    held_until = since + pool.cooldown_seconds
    if first.observed_mode is Mode.SHARED:
        at.to_passthrough.append(Unit(gpus, held_until=held_until))
    else:
        at.to_shared.append(Unit(gpus, held_until=held_until))


def _sort_bundle(part: NodePart, pool: Pool, bundle: list[tuple[Gpu, bool, bool]]) -> None:
    """GPUs that move together: all of them may, or none does."""
    at = part.at
    gpus = tuple(gpu for gpu, _, _ in bundle)
    modes = {gpu.observed_mode for gpu in gpus}
    staying = [gpu for gpu, stays, _ in bundle if stays]
    busy = [gpu for gpu, _, busy in bundle if busy]
    if len(modes) == 1 and not staying:
        if not busy:
            return _idle(part, gpus, pool)
        if modes == {Mode.SHARED}:
            return at.busy_shared.append(gpus)
    cause = (staying or busy or list(gpus))[0]
    part.ineligible.extend(IneligibleGpu(gpu, at.node, pool, partner=cause) for gpu in gpus)
    return None
