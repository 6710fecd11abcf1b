"""GPUs that are kept for VMs of reservations' holders, less what the plan gives them."""

from poolmgr.domain.backoff import utc
from poolmgr.domain.demand import Vm
from poolmgr.domain.denials import Denial
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.candidates import UNLIMITED
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.reservations import Due, Reserved, gpus_of


class KeptForHolders:
    """One decision's. Of each group a number is kept, not certain GPUs."""

    def __init__(self, reserved: Reserved, inventory: Inventory) -> None:
        self._reserved, self._inventory = reserved, inventory
        self._kept = reserved.kept(inventory)

    def __bool__(self) -> bool:
        return any(self._kept.values())

    @property
    def groups(self) -> tuple[GroupKey, ...]:
        """Those of which GPUs are kept."""
        return tuple(key for key, gpus in self._kept.items() if gpus)

    def missing(self, key: GroupKey, ready: int) -> int:
        """How many are to come over for holders now, where `ready` are free or on their way."""
        if not any(due.comes_over for due in self._dues(key)):
            return 0
        return max(0, self._kept.get(key, 0) - ready)

    def holder(self, vm: Vm) -> Due | None:
        """The reservation that the machine uses, where that has enough left for it."""
        due = self._reserved.holder(vm)
        return due if due is not None and gpus_of(vm, due, self._inventory) <= due.kept else None

    def most_ready(self, vm: Vm, key: GroupKey, ready: int) -> int:
        """Of the `ready` ones, how many the machine may have. One that is in the open already may take any."""
        kept = self._kept.get(key, 0)
        if not kept or vm.admitted:
            return UNLIMITED
        due = self.holder(vm)
        own = min(due.kept, kept) if due is not None and key in due.groups else 0
        return max(0, ready - kept + own)

    def give(self, vm: Vm, key: GroupKey, gpus: int) -> None:
        """The machine is given GPUs of the group."""
        due = self.holder(vm)
        if due is not None and key in due.groups:
            due.given += gpus
            self._kept[key] = max(0, self._kept.get(key, 0) - gpus)

    def denial(self, keys: list[GroupKey], gpus: int) -> Denial:
        """To a machine that only GPUs that are kept could serve."""
        dues = [due for key in keys for due in self._dues(key)]
        names = " and ".join(dict.fromkeys(due.reservation.key for due in dues))
        until = max(due.window.ends_at for due in dues)
        return (
            Reason.RESERVED,
            f"{gpus} GPU(s) that would serve it are kept for reservation {names}, until {utc(until)}",
        )

    def names(self, key: GroupKey) -> str:
        return ", ".join(due.reservation.key for due in self._dues(key))

    def _dues(self, key: GroupKey) -> list[Due]:
        return [due for due in self._reserved.of(Mode.PASSTHROUGH) if due.kept and key in due.groups]
