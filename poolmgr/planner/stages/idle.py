"""Idle GPUs moved for nobody in particular: for minimum, reservations and headroom, and back to the shared side."""

from math import ceil

from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.eligibility import name_of
from poolmgr.planner.inventory.node import GroupKey, NodeInventory, Unit
from poolmgr.planner.inventory.shared_fit import cards_needed
from poolmgr.planner.sizing.reservations import MOVE_SECONDS
from poolmgr.planner.stages.drain_forecast import spare_for_pods
from poolmgr.planner.stages.state import Effect, PlanState, Proposal


def fill_minimum(state: PlanState) -> Effect:
    """Sides under their minimum are filled, cooldown or not."""
    proposal = Proposal(state)
    for key, group in state.inventory.groups.items():
        for mode in Mode:
            budget = proposal.budgets[key[0]]
            missing = group.pool.side(mode).min - (
                budget.passthrough if mode is Mode.PASSTHROUGH else budget.shared
            )
            if missing > 0:
                message = f"pool {group.pool.name} is {missing} GPU(s) under its minimum in {mode}"
                move_idle(proposal, key, mode, missing, Reason.BELOW_MINIMUM, message, now=float("inf"))
    return proposal.effect()


def fill_reservations(state: PlanState) -> Effect:
    """Bring over what containers have reserved, once the window is near."""
    proposal = Proposal(state)
    for key, reservations in state.reserved.shared.items():
        group = state.inventory.groups[key]
        missing = sum(r.gpus for r in reservations if r.opens_in <= MOVE_SECONDS) - group.shared
        if missing > 0:
            names = ", ".join(r.name for r in reservations[:3])
            message = f"{missing} more shared GPU(s) are reserved by {names}"
            move_idle(proposal, key, Mode.SHARED, missing, Reason.RESERVATION_DUE, message, now=float("inf"))
    return proposal.effect()


def prefetch(state: PlanState) -> Effect:
    """Idle shared GPUs are moved over ahead of demand, until as many are free as the headroom wants."""
    proposal = Proposal(state)
    for key, group in state.inventory.groups.items():
        headroom = state.headroom[key]
        missing = headroom.prefetch - group.free
        if missing > 0:
            move_idle(
                proposal,
                key,
                Mode.PASSTHROUGH,
                missing,
                headroom.reason,
                headroom.message,
                now=state.snapshot.taken_at,
            )
    return proposal.effect()


def return_idle(state: PlanState) -> Effect:
    """GPUs idle in passthrough beyond their cooldown and the headroom go to where pods wait for them, one group of
    equal pods after the other."""
    proposal = Proposal(state)
    if not any(group.free > state.headroom[key].keep for key, group in state.inventory.groups.items()):
        return proposal.effect()  # waiting pods, which take long to look at, do not matter then
    wanted = _wanted_by_pods(state)
    for key, group in state.inventory.groups.items():
        short = ceil(wanted.get(key, 0.0) - 1e-9)
        reason, message = (
            Reason.SHARED_DEMAND,
            f"pods wait that need {short} more shared GPU(s) of {group.model}",
        )
        idle_shared = group.shared - group.shared_busy
        if short <= 0 and idle_shared < group.pool.shared.headroom:
            short = group.pool.shared.headroom - idle_shared
            reason, message = (
                Reason.HEADROOM,
                f"pool {group.pool.name} keeps {group.pool.shared.headroom} shared GPU(s) idle",
            )
        surplus = group.free - state.headroom[key].keep
        if short > 0 and surplus > 0:
            surplus = min(surplus, spare_for_pods(proposal, key))
        if short > 0 and surplus > 0:
            move_idle(
                proposal,
                key,
                Mode.SHARED,
                min(short, surplus),
                reason,
                message,
                now=state.snapshot.taken_at,
            )
    return proposal.effect()


def _wanted_by_pods(state: PlanState) -> dict[GroupKey, float]:
    """Cards that waiting pods would fill beyond what they will find, by the group that should give them."""
    wanted: dict[GroupKey, float] = {}
    for fit in state.waiting_pods:
        if fit.unmet <= 0:
            continue
        fitting = [
            (group, cards)
            for group in state.inventory.groups.values()
            if fit.shape.accepts_model(group.model)
            and (cards := cards_needed(fit, group.memory_mib)) < float("inf")
        ]
        if fitting:
            group, cards = max(fitting, key=lambda pair: (pair[0].free, pair[0].model))
            key = (str(group.pool.name), group.model)
            wanted[key] = wanted.get(key, 0.0) + cards
    return wanted


def _movable(proposal: Proposal, node: NodeInventory, to_mode: Mode, now: float) -> list[Unit]:
    """Units of one node that may go `to_mode` for nobody in particular: idle, rested, not promised to a VM."""
    if proposal.direction(node.node.name) not in (None, to_mode):
        return []
    if to_mode is Mode.PASSTHROUGH:
        units = [unit for unit in node.to_passthrough if not proposal.is_moved(unit)]
    else:
        room = node.free
        units = []
        for unit in node.to_shared:
            if not proposal.is_moved(unit) and unit.size <= room:
                units.append(unit)
                room -= unit.size
    return [unit for unit in units if unit.held_until <= now]


def move_idle(
    proposal: Proposal, key: GroupKey, to_mode: Mode, gpus: int, reason: Reason, message: str, *, now: float
) -> None:
    """Move up to `gpus` idle GPUs. Nodes whose units fit the need best go first: emptying small remainders
    keeps whole nodes whole for VMs that need several GPUs."""
    budget = proposal.budgets[key[0]]
    offers = []
    for name, node in proposal.nodes(key).items():
        units = _movable(proposal, node, to_mode, now)
        if units:
            kept = node.free if to_mode is Mode.SHARED else sum(unit.size for unit in node.to_passthrough)
            offers.append((kept, str(name), node, units))
    offers.sort(key=lambda offer: offer[:2])
    for _, _, node, units in offers:
        for unit in units:
            if gpus <= 0:
                return
            denial = budget.denial(to_mode, unit.size)
            if denial is not None:
                proposal.hold_back(key, denial)
                return
            proposal.move(key, unit, to_mode, reason, f"{name_of(unit.gpus[0])} is idle: {message}")
            gpus -= unit.size
            if to_mode is Mode.SHARED:
                proposal.take_free(key, node.node.name, unit.size)
