"""Moves for nobody in particular: minimum, spare, and the way back to the shared side."""

from math import ceil

from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.eligibility import name_of
from poolmgr.planner.inventory.node import GroupKey, NodeInventory, Unit
from poolmgr.planner.inventory.shared_fit import ShapeOutlook, cards_needed
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.sizing.reservations import MOVE_SECONDS, Reserved
from poolmgr.planner.stages.cordon_ahead import may_go_back
from poolmgr.planner.stages.state import PlanState


def fill_minimum(draft: PlanState) -> None:
    for key, shelf in draft.stock.shelves.items():
        budget = draft.budgets[key[0]]
        for mode in Mode:
            missing = shelf.pool.side(mode).min - (
                budget.passthrough if mode is Mode.PASSTHROUGH else budget.shared
            )
            if missing > 0:
                message = f"pool {shelf.pool.name} is {missing} GPU(s) under its minimum in {mode}"
                pull(draft, key, mode, missing, Reason.BELOW_MINIMUM, message, now=float("inf"))


def fill_reserved(draft: PlanState, due: Reserved) -> None:
    """Bring over what containers have reserved, once the window is near."""
    for key, reservations in due.shared.items():
        shelf = draft.stock.shelves[key]
        missing = sum(r.gpus for r in reservations if r.opens_in <= MOVE_SECONDS) - shelf.shared
        if missing > 0:
            names = ", ".join(r.name for r in reservations[:3])
            message = f"{missing} more shared GPU(s) are reserved by {names}"
            pull(draft, key, Mode.SHARED, missing, Reason.RESERVATION_DUE, message, now=float("inf"))


def fetch_spare(draft: PlanState, spares: dict[GroupKey, Headroom]) -> None:
    for key, shelf in draft.stock.shelves.items():
        spare = spares[key]
        missing = spare.fetch - shelf.free
        if missing > 0:
            pull(
                draft,
                key,
                Mode.PASSTHROUGH,
                missing,
                spare.reason,
                spare.message,
                now=draft.snapshot.taken_at,
            )


def may_give_back(draft: PlanState, spares: dict[GroupKey, Headroom]) -> bool:
    """True when some shelf has more idle GPUs than it wants ready: only then do waiting pods matter."""
    return any(shelf.free > spares[key].keep for key, shelf in draft.stock.shelves.items())


def give_back(draft: PlanState, spares: dict[GroupKey, Headroom], pods: list[ShapeOutlook]) -> None:
    """Move idle passthrough GPUs to where pods wait for them, one group of equal pods after the other."""
    wanted: dict[GroupKey, float] = {}
    for group in pods:
        if group.unmet <= 0:
            continue
        fitting = [
            (shelf, cards)
            for key, shelf in draft.stock.shelves.items()
            if group.shape.accepts_model(shelf.model)
            and (cards := cards_needed(group, shelf.memory_mib)) < float("inf")
        ]
        if fitting:
            shelf, cards = max(fitting, key=lambda pair: (pair[0].free, pair[0].model))
            key = (str(shelf.pool.name), shelf.model)
            wanted[key] = wanted.get(key, 0.0) + cards
    for key, shelf in draft.stock.shelves.items():
        short = ceil(wanted.get(key, 0.0) - 1e-9)
        reason, message = (
            Reason.SHARED_DEMAND,
            f"pods wait that need {short} more shared GPU(s) of {shelf.model}",
        )
        idle_shared = shelf.shared - shelf.shared_busy
        if short <= 0 and idle_shared < shelf.pool.shared.headroom:
            short = shelf.pool.shared.headroom - idle_shared
            reason, message = (
                Reason.HEADROOM,
                f"pool {shelf.pool.name} keeps {shelf.pool.shared.headroom} shared GPU(s) idle",
            )
        surplus = shelf.free - spares[key].keep
        if short > 0 and surplus > 0:
            surplus = min(surplus, may_go_back(draft, key, spares[key]))
        if short > 0 and surplus > 0:
            pull(draft, key, Mode.SHARED, min(short, surplus), reason, message, now=draft.snapshot.taken_at)


def _candidates(draft: PlanState, stock: NodeInventory, to_mode: Mode, now: float) -> list[Unit]:
    """Units of one node that may go `to_mode` for nobody in particular: idle, rested, not promised to a VM."""
    node = stock.node.name
    if draft.directions.get(node, to_mode) is not to_mode:
        return []
    if to_mode is Mode.PASSTHROUGH:
        units = [u for u in stock.to_passthrough if id(u) not in draft.moved]
    else:
        room = stock.free
        units = []
        for unit in stock.to_shared:
            if id(unit) not in draft.moved and unit.size <= room:
                units.append(unit)
                room -= unit.size
    return [u for u in units if u.held_until <= now]


def pull(
    draft: PlanState, key: GroupKey, to_mode: Mode, gpus: int, reason: Reason, message: str, *, now: float
) -> None:
    """Move up to `gpus` idle GPUs. Nodes whose units fit the need best go first: emptying small remainders
    keeps whole nodes whole for VMs that need several GPUs."""
    shelf, budget = draft.stock.shelves[key], draft.budgets[key[0]]
    offers = []
    for name, stock in shelf.nodes.items():
        units = _candidates(draft, stock, to_mode, now)
        if units:
            kept = stock.free if to_mode is Mode.SHARED else sum(u.size for u in stock.to_passthrough)
            offers.append((kept, str(name), stock, units))
    offers.sort(key=lambda offer: offer[:2])
    for _, _, stock, units in offers:
        for unit in units:
            if gpus <= 0:
                return
            denial = budget.denial(to_mode, unit.size)
            if denial is not None:
                draft.held_back.setdefault(key, denial)
                return
            what = name_of(unit.gpus[0])
            draft.move(shelf, unit, to_mode, reason, f"{what} is idle: {message}")
            gpus -= unit.size
            if to_mode is Mode.SHARED:
                stock.free -= unit.size
