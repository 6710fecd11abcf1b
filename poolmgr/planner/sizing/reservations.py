"""GPUReservations as demand: GPUs that are to be ready in a window of time, whoever asks for them then.

A reservation for VMs adds to what is kept and prefetched on the passthrough side, one for containers to the least
that the shared side keeps. What VMs of its namespace already use counts towards it. GPUs are made ready before
the window opens, by a lead that covers a drain and a move; nobody is evicted for a reservation.
"""

from dataclasses import dataclass, replace

from poolmgr.domain.demand import Reservation
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.headroom import Headroom

MOVE_SECONDS = 600.0
"""Before the window opens, idle GPUs are brought over: twice what the slowest step of a move may take."""


@dataclass(frozen=True, slots=True)
class Due:
    """One reservation that matters now."""

    name: str
    opens_in: float
    """Seconds until its window; 0 within it."""
    gpus: int
    """Beyond what its namespace's VMs already use."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What reservations ask of a plan."""

    passthrough: dict[GroupKey, list[Due]]
    shared: dict[GroupKey, list[Due]]

    @property
    def shared_gpus(self) -> dict[GroupKey, int]:
        """What the shared side is to keep for containers."""
        return {key: sum(due.gpus for due in found) for key, found in self.shared.items()}


def reserved(snapshot: ClusterSnapshot, inventory: Inventory) -> Reserved:
    """The reservations whose window is open or opens within the lead, by the group that serves them."""
    found = Reserved({}, {})
    for reservation in sorted(snapshot.reservations, key=lambda r: (r.starts_at, r.namespace, r.name)):
        key = _group_for(reservation, inventory)
        if key is None or snapshot.taken_at >= reservation.ends_at:
            continue
        opens_in = max(0.0, reservation.starts_at - snapshot.taken_at)
        if opens_in > MOVE_SECONDS + inventory.groups[key].pool.drain_timeout_seconds:
            continue
        name = f"{reservation.namespace}/{reservation.name}"
        passthrough = reservation.mode == Mode.PASSTHROUGH
        used = _used(snapshot, inventory, key, reservation.namespace) if passthrough else 0
        side = found.passthrough if passthrough else found.shared
        side.setdefault(key, []).append(Due(name, opens_in, max(0, reservation.gpus - used)))
    return found


def _group_for(reservation: Reservation, inventory: Inventory) -> GroupKey | None:
    """The largest group of the model."""
    wanted = reservation.model.casefold()
    keys = [key for key, group in inventory.groups.items() if group.model.casefold() == wanted]
    return max(keys, key=lambda key: (inventory.groups[key].gpus, key), default=None)


def _used(snapshot: ClusterSnapshot, inventory: Inventory, key: GroupKey, namespace: str) -> int:
    return sum(
        vm.gpus
        for vm in snapshot.vms
        if vm.node is not None
        and vm.namespace == namespace
        and vm.claims
        and key in inventory.groups_by_resource.get(vm.claims[0].resource_name, ())
    )


def with_reservations(headroom: dict[GroupKey, Headroom], due: Reserved) -> dict[GroupKey, Headroom]:
    """The headroom of each group, with what is reserved for VMs added."""
    result = dict(headroom)
    for key, reservations in due.passthrough.items():
        base = headroom[key]
        now = [r for r in reservations if r.opens_in <= MOVE_SECONDS]
        ready = sum(r.gpus for r in now)
        if not any(r.gpus for r in reservations):
            continue
        horizons = sorted({seconds for seconds, _ in base.ahead} | {r.opens_in for r in reservations})
        ahead = tuple((seconds, _wanted_by(seconds, base, reservations)) for seconds in horizons)
        names = ", ".join(r.name for r in reservations[:3])
        result[key] = replace(
            base,
            keep=base.keep + ready,
            prefetch=base.prefetch + ready,
            ahead=ahead,
            reason=Reason.RESERVATION_DUE,
            message=f"{sum(r.gpus for r in reservations)} GPU(s) are reserved by {names}; {base.message}",
        )
    return result


def _wanted_by(seconds: float, base: Headroom, reservations: list[Due]) -> int:
    """GPUs to have free `seconds` from now: the forecast's nearest later horizon, and what is reserved by then."""
    forecast = next((gpus for horizon, gpus in base.ahead or base.lend if horizon >= seconds), base.prefetch)
    return forecast + sum(r.gpus for r in reservations if r.opens_in <= seconds)
