"""How many GPUs should be ready for VMs beyond those in use? One answer per group, with its reason."""

from dataclasses import dataclass
from typing import Any, Protocol

from poolmgr.domain.occupancy import unbound_vms
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey

SOON_SECONDS = 600.0
"""VMs that come so soon find only what is free by then: nothing more can be drained for them."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """GPUs to have free in passthrough."""

    keep: int
    """Idle ones up to this number are not given back."""
    prefetch: int
    """Below this number, idle shared GPUs are moved over ahead of demand. Never above `keep`."""
    reason: Reason
    message: str
    ahead: tuple[tuple[float, int], ...] = ()
    """(seconds from now, GPUs to have free by then). Where idle ones do not suffice, GPUs in use are closed to
    new pods so that enough of them fall free in time; nobody is disturbed."""
    drain_share: float = 0.8
    """Of the group's nodes, how many may be draining at once."""
    soon: int = 0
    """GPUs that VMs will want within `SOON_SECONDS`. As many as are not free are closed to new pods, so that what
    falls free meanwhile waits for a VM and takes no pod that would be evicted for it minutes later."""
    lend: tuple[tuple[float, int], ...] = ()
    """(seconds from now, GPUs that VMs may want by then). Where fewer will be free, nodes are lent to best-effort
    containers, which may be evicted when the VMs come. In place of `ahead` where the pool allows eviction."""
    work_at_once: float = float("inf")
    """GPU-seconds of best-effort work that eviction may throw away for a VM that has just come."""
    work_per_second_waited: float = 0.0
    """What is added to that for each second that it waits: ending a young pod is allowed early, an old one only for
    somebody who has waited long."""


class Sizer(Protocol):
    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        """The headroom wanted per group, and what has been learned by now."""
        ...


def headroom_of(group: GpuGroup) -> tuple[int, str]:
    """GPUs that the pool's spec wants ready for VMs, and the sentence that says so."""
    headroom = group.pool.passthrough.headroom
    return headroom, f"pool {group.pool.name} keeps {headroom} GPU(s) ready"


class HeadroomSizer:
    """What the pool's spec says, and nothing more: no forecast, nothing learned."""

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        found = {}
        for key, group in inventory.groups.items():
            headroom, message = headroom_of(group)
            found[key] = Headroom(headroom, headroom, Reason.HEADROOM, message)
        return found, None


def wanted_by_vms(snapshot: ClusterSnapshot, inventory: Inventory) -> dict[GroupKey, int]:
    """GPUs that VMs have or wait for, by group."""
    wanted = {key: group.vm_busy for key, group in inventory.groups.items()}
    for vm in unbound_vms(snapshot.vms):
        for claim in vm.claims:
            keys = inventory.groups_by_resource.get(claim.resource_name)
            if keys:
                wanted[keys[0]] += claim.count
    return wanted
