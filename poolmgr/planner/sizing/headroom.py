"""How many GPUs should be ready for VMs beyond those in use? One answer per shelf, with its reason."""

from dataclasses import dataclass
from typing import Any, Protocol

from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey


@dataclass(frozen=True, slots=True)
class Headroom:
    """GPUs to have free in passthrough."""

    keep: int
    """Idle ones up to this number are not given back."""
    fetch: int
    """Below this number, idle shared GPUs are moved over ahead of demand. Never above `keep`."""
    reason: Reason
    message: str
    ahead: tuple[tuple[float, int], ...] = ()
    """(seconds from now, GPUs to have free by then). Where idle ones do not suffice, GPUs in use are closed to
    new pods so that enough of them fall free in time; nobody is disturbed."""
    drain_share: float = 0.8
    """Of the shelf's nodes, how many may be draining at once."""
    soon: int = 0
    """GPUs that VMs will want within `drain.SOON_SECONDS`. As many as are not free are closed to new pods, so that what
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
        self, snapshot: ClusterSnapshot, stock: Inventory, memory: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        """The spare GPUs wanted per shelf, and what to remember."""
        ...


def headroom_of(shelf: GpuGroup) -> tuple[int, str]:
    """GPUs that the pool's spec wants ready for VMs, and the sentence that says so."""
    headroom = shelf.pool.passthrough.headroom
    return headroom, f"pool {shelf.pool.name} keeps {headroom} GPU(s) ready"


class HeadroomSizer:
    """What the pool's spec says, and nothing more: no forecast, no memory."""

    def size(
        self, snapshot: ClusterSnapshot, stock: Inventory, memory: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        spares = {}
        for key, shelf in stock.shelves.items():
            headroom, message = headroom_of(shelf)
            spares[key] = Headroom(headroom, headroom, Reason.HEADROOM, message)
        return spares, None


def wanted_by_vms(snapshot: ClusterSnapshot, stock: Inventory) -> dict[GroupKey, int]:
    """GPUs that VMs have or wait for, by shelf."""
    wanted = {key: shelf.vm_busy for key, shelf in stock.shelves.items()}
    for vm in snapshot.vms:
        if vm.node is None and vm.claims:
            keys = stock.groups_by_resource.get(vm.claims[0].resource_name)
            if keys:
                wanted[keys[0]] += vm.gpus
    return wanted
