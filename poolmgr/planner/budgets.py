"""How many GPUs may still move: the pool's bounds and its budget, spent as moves are chosen."""

from collections.abc import Mapping
from dataclasses import dataclass

from poolmgr.domain.denials import Denial, unsure_words
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey


@dataclass(slots=True)
class PoolBudget:
    """One pool's room for moves, over all its models. Invariant: no choice that it admits takes a side over
    its maximum or under its minimum, or more GPUs into motion than `max_in_flight`."""

    name: str
    passthrough: int
    shared: int
    moving: int
    passthrough_min: int
    passthrough_max: int
    shared_min: int
    shared_max: int
    max_in_flight: int
    unsure: int = 0
    """GPUs that may be on either side: counted for each maximum and for no minimum."""
    slots_for_vms: int = 0
    """Of `max_in_flight`, those that only moves for waiting VMs may use; see `slots_for_vms`."""

    def side_denial(self, to_mode: Mode, gpus: int) -> Denial | None:
        """What the bounds of both sides say to moving `gpus` more."""
        leaving, arriving = (
            (self.shared, self.passthrough)
            if to_mode is Mode.PASSTHROUGH
            else (self.passthrough, self.shared)
        )
        least = self.shared_min if to_mode is Mode.PASSTHROUGH else self.passthrough_min
        most = self.passthrough_max if to_mode is Mode.PASSTHROUGH else self.shared_max
        if leaving - gpus < least:
            return (
                Reason.AT_MINIMUM,
                f"pool {self.name} keeps at least {least} GPU(s) in {to_mode.other} and has {leaving}",
            )
        if arriving + self.unsure + gpus > most:
            return (
                Reason.AT_MAXIMUM,
                f"pool {self.name} allows at most {most} GPU(s) in {to_mode} and has {arriving}{unsure_words(self.unsure)}",
            )
        return None

    def budget_denial(self, gpus: int) -> Denial | None:
        if self.moving + gpus <= self.max_in_flight - self.slots_for_vms:
            return None
        if gpus > self.max_in_flight:
            return (
                Reason.BUDGET_SPENT,
                f"{gpus} GPUs can only move together, and pool {self.name} moves at most {self.max_in_flight} at "
                "once; raise rebalance.maxInFlight to allow it",
            )
        note = (
            f"; the last {self.slots_for_vms} slot(s) are reserved for waiting VMs"
            if self.slots_for_vms
            else ""
        )
        return (
            Reason.BUDGET_SPENT,
            f"pool {self.name} moves at most {self.max_in_flight} GPU(s) at once, and {self.moving} are moving{note}",
        )

    def denial(self, to_mode: Mode, gpus: int) -> Denial | None:
        return self.side_denial(to_mode, gpus) or self.budget_denial(gpus)

    def spend(self, to_mode: Mode, gpus: int) -> None:
        sign = 1 if to_mode is Mode.PASSTHROUGH else -1
        self.passthrough += sign * gpus
        self.shared -= sign * gpus
        self.moving += gpus


MOST_SLOTS_FOR_VMS = 4


def slots_for_vms(budget: PoolBudget) -> int:
    """Moves in flight that a stage leaves to VMs that wait and find an idle GPU meanwhile: a quarter, at least one, at
    most four."""
    return min(MOST_SLOTS_FOR_VMS, -(-budget.max_in_flight // 4))


UNBOUNDED = 1 << 40


def budgets_of(
    inventory: Inventory, reserved_shared: Mapping[GroupKey, int] | None = None
) -> dict[str, PoolBudget]:
    """The budgets of all pools, as of now. `reserved_shared` (GPUs) raises the least that the shared side keeps, never
    beyond what the pool has, so that it cannot ask for more than there is."""
    groups: dict[str, list[GroupKey]] = {}
    for key in inventory.groups:
        groups.setdefault(key[0], []).append(key)
    budgets = {}
    for name, keys in groups.items():
        members = [inventory.groups[key] for key in keys]
        pool = members[0].pool
        passthrough, shared = sum(g.passthrough for g in members), sum(g.shared for g in members)
        reserved = max((reserved_shared or {}).get(key, 0) for key in keys)
        budgets[name] = PoolBudget(
            name,
            passthrough=passthrough,
            shared=shared,
            moving=sum(g.moving for g in members),
            passthrough_min=pool.passthrough.min,
            passthrough_max=UNBOUNDED if pool.passthrough.max is None else pool.passthrough.max,
            shared_min=max(pool.shared.min, min(reserved, passthrough + shared)),
            shared_max=UNBOUNDED if pool.shared.max is None else pool.shared.max,
            max_in_flight=pool.max_in_flight,
            unsure=sum(g.unsure for g in members),
        )
    return budgets
