"""GPUReservations as demand: which are promised, which are due now, and what is to be kept for their holders.

A reservation is due from its lead before a window until the window ends. What its holders' VMs already use counts towards
it. GPUs are made ready before the window opens: what falls free is kept, idle ones come over, those in use are closed to
others; nobody is evicted for a reservation. A number of GPUs is promised, not certain ones, so VMs of others are admitted
while more are free than are kept. Of containers certain cards are kept, since HAMi puts several on one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from poolmgr.domain.calendar import Capacity, capacity_of, judge
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Gpu, Pool
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import LEAD_SECONDS, Reservation, Window
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.headroom import Headroom

HOUR_SECONDS = 3_600.0


@dataclass(slots=True)
class Due:
    """A promised reservation whose window is open or near."""

    reservation: Reservation
    window: Window
    opens_in: float
    """Seconds; 0 within the window."""
    groups: tuple[GroupKey, ...]
    """Of its model, the largest first."""
    used: int = 0
    """GPUs that its holders have: whole ones of VMs, or cards with slices of theirs."""
    given: int = 0
    """GPUs that the plan gives to holders who wait."""
    cards: tuple[Gpu, ...] = ()
    """The shared cards that are kept for it."""
    ready_cards: int = 0
    """Those that nobody else has."""

    @property
    def kept(self) -> int:
        """GPUs that its holders may still ask for."""
        return max(0, self.reservation.gpus - self.used - self.given)

    @property
    def comes_over(self) -> bool:
        """Idle GPUs are brought over for it now."""
        return self.opens_in <= LEAD_SECONDS


@dataclass(slots=True)
class Reserved:
    """What reservations ask of a plan."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By key: whether it is promised."""
    due: list[Due] = field(default_factory=list)
    promised: set[GroupKey] = field(default_factory=set)
    """Groups of which GPUs for VMs are promised, now or later."""

    def of(self, mode: Mode) -> list[Due]:
        return [due for due in self.due if due.reservation.mode is mode]

    @property
    def groups(self) -> set[GroupKey]:
        """Those of which GPUs for VMs are due."""
        return {key for due in self.of(Mode.PASSTHROUGH) for key in due.groups}

    def may_wait(self, vm: Vm, inventory: Inventory) -> bool:
        """True where GPUs of a kind that the machine asks for are promised: in the open it would take whatever falls
        free."""
        known = inventory.groups_by_resource
        return any(not self.promised.isdisjoint(known.get(c.resource_name, ())) for c in vm.claims)

    def holder(self, workload: Vm | SharedPod) -> Due | None:
        """The first that the workload holds and that has GPUs left for it."""
        mode = Mode.PASSTHROUGH if isinstance(workload, Vm) else Mode.SHARED
        return next((due for due in self.of(mode) if due.kept and is_holder(due.reservation, workload)), None)

    def kept(self, inventory: Inventory) -> dict[GroupKey, int]:
        """GPUs to keep for VMs of holders, by group."""
        return _by_group(self.of(Mode.PASSTHROUGH), inventory)

    def shared_gpus(self, inventory: Inventory) -> dict[GroupKey, int]:
        """What the shared side is to keep for containers."""
        return _by_group(self.of(Mode.SHARED), inventory, whole=True)

    def cards_of_others(self, pod: SharedPod) -> frozenset[GpuUuid]:
        """Cards that are kept for reservations that the pod does not hold."""
        return frozenset(
            card.uuid for due in self.due for card in due.cards if not is_holder(due.reservation, pod)
        )


def is_holder(reservation: Reservation, workload: Vm | SharedPod) -> bool:
    return reservation.is_held_by(workload.namespace, dict(workload.labels), workload.reservation)


Verdicts = dict[str, Verdict]


class VerdictCache:
    """The verdicts of the decision before: it saves time and alters none. They hold for the same reservations and GPUs, and
    for the hour in which they were made: what conflicts only with windows that are over is promised then."""

    def __init__(self) -> None:
        self._asked: tuple[object, ...] = ()
        self._verdicts: Verdicts = {}

    def judge(
        self, reservations: tuple[Reservation, ...], capacities: Mapping[str, Capacity], now: float
    ) -> Verdicts:
        asked = (reservations, capacities, now // HOUR_SECONDS)
        if asked != self._asked:
            self._asked = asked
            self._verdicts = judge(reservations, capacities, now // HOUR_SECONDS * HOUR_SECONDS)
        return self._verdicts


def reserved(snapshot: ClusterSnapshot, inventory: Inventory, cache: VerdictCache | None = None) -> Reserved:
    """The reservations that are promised, those that are due, and what their holders have of them."""
    if not snapshot.reservations:
        return Reserved()
    now = snapshot.taken_at
    groups: dict[str, list[GroupKey]] = {}
    for key in sorted(inventory.groups, key=lambda key: (-inventory.groups[key].gpus, key)):
        groups.setdefault(key[1].casefold(), []).append(key)
    verdicts = (cache or VerdictCache()).judge(snapshot.reservations, _capacities(groups, inventory), now)
    found = Reserved(verdicts)
    for reservation in sorted(snapshot.reservations, key=lambda r: (r.created_at, r.key)):
        keys, window = groups.get(reservation.model.casefold(), []), reservation.window(now)
        if window is None or not found.verdicts[reservation.key]:
            continue
        if reservation.mode is Mode.PASSTHROUGH:
            found.promised.update(keys)
        opens_in = max(0.0, window.starts_at - now)
        drain = max(inventory.groups[key].pool.drain_timeout_seconds for key in keys)
        if opens_in <= max(reservation.lead_seconds, LEAD_SECONDS + drain):
            found.due.append(Due(reservation, window, opens_in, tuple(keys)))
    _count_vms(snapshot, inventory, found)
    return found


def _capacities(groups: Mapping[str, list[GroupKey]], inventory: Inventory) -> dict[str, Capacity]:
    found = {}
    for model, keys in groups.items():
        held: dict[Pool, int] = {}
        for key in keys:
            pool = inventory.groups[key].pool
            held[pool] = held.get(pool, 0) + inventory.groups[key].gpus
        found[model] = capacity_of(held)
    return found


def _by_group(dues: Iterable[Due], inventory: Inventory, *, whole: bool = False) -> dict[GroupKey, int]:
    """The largest groups give first; `whole` counts what holders have as well."""
    found: dict[GroupKey, int] = {}
    for due in dues:
        left = due.reservation.gpus if whole else due.kept
        for key in due.groups:
            give = min(left, inventory.groups[key].gpus - found.get(key, 0))
            if give > 0:
                found[key] = found.get(key, 0) + give
                left -= give
    return found


def _count_vms(snapshot: ClusterSnapshot, inventory: Inventory, found: Reserved) -> None:
    if not found.of(Mode.PASSTHROUGH):
        return
    for vm in snapshot.vms:
        due = found.holder(vm) if vm.node is not None else None
        if due is not None:
            due.used += gpus_of(vm, due, inventory)


def gpus_of(vm: Vm, due: Due, inventory: Inventory) -> int:
    """GPUs of the reserved model that the machine asks for."""
    known = inventory.groups_by_resource
    return sum(
        claim.count
        for claim in vm.claims
        if not set(due.groups).isdisjoint(known.get(claim.resource_name, ()))
    )


def with_reservations(
    headroom: dict[GroupKey, Headroom], due: Reserved, inventory: Inventory
) -> dict[GroupKey, Headroom]:
    """The headroom of each group, with what is reserved for VMs added."""
    result = dict(headroom)
    passthrough = [d for d in due.of(Mode.PASSTHROUGH) if d.kept]
    kept = _by_group(passthrough, inventory)
    now = _by_group([d for d in passthrough if d.comes_over], inventory)
    for key, gpus in kept.items():
        base, ready = headroom[key], now.get(key, 0)
        mine = [d for d in passthrough if key in d.groups]
        horizons = sorted({seconds for seconds, _ in base.ahead} | {d.opens_in for d in mine})
        ahead = tuple((seconds, _wanted_by(seconds, base, mine, key, inventory)) for seconds in horizons)
        names = ", ".join(d.reservation.key for d in mine[:3])
        result[key] = replace(
            base,
            keep=base.keep + gpus,
            prefetch=base.prefetch + ready,
            ahead=ahead,
            reason=Reason.RESERVATION_DUE,
            message=f"{gpus} GPU(s) are reserved by {names}; {base.message}",
        )
    return result


def _wanted_by(seconds: float, base: Headroom, dues: list[Due], key: GroupKey, inventory: Inventory) -> int:
    """GPUs to have free `seconds` from now: the forecast's nearest later horizon, and what is reserved by then."""
    forecast = next((gpus for horizon, gpus in base.ahead or base.lend if horizon >= seconds), base.prefetch)
    return forecast + _by_group([d for d in dues if d.opens_in <= seconds], inventory).get(key, 0)
