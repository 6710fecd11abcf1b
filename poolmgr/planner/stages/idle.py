"""Idle GPUs moved for nobody in particular: for minimum, reservations and headroom, and back to the shared side."""

from dataclasses import dataclass
from math import ceil

from poolmgr.domain.denials import name_of
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Placement
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.card_table import card_size
from poolmgr.planner.inventory.inventory import GpuGroup
from poolmgr.planner.inventory.node import GroupKey, NodeInventory, Unit
from poolmgr.planner.inventory.node_resources import NodeResources
from poolmgr.planner.inventory.shared_fit import PodShape, cards_needed
from poolmgr.planner.stages.drain_forecast import spare_for_pods
from poolmgr.planner.stages.state import PlanState, Proposal, StageResult
from poolmgr.planner.stages.whole_pods import return_for_whole_pods


def fill_minimum(state: PlanState) -> StageResult:
    """Sides under their minimum are filled, cooldown or not."""
    proposal = Proposal(state)
    for key, group in state.inventory.groups.items():
        for mode in Mode:
            budget = proposal.budgets[key[0]]
            missing = group.pool.side(mode).min - (
                budget.passthrough if mode is Mode.PASSTHROUGH else budget.shared
            )
            if missing > 0:
                message = f"pool {group.pool.name} is {missing} GPU(s) below its minimum in {mode}"
                move_idle(proposal, key, mode, missing, Reason.BELOW_MINIMUM, message, now=float("inf"))
    return proposal.result()


def fill_reservations(state: PlanState) -> StageResult:
    """Bring over what containers have reserved, once the window is near."""
    proposal = Proposal(state)
    for key, gpus in state.reserved.shared_gpus(state.inventory).items():
        dues = [d for d in state.reserved.of(Mode.SHARED) if key in d.groups and d.comes_over]
        missing = gpus - state.inventory.groups[key].shared
        if missing > 0 and dues:
            names = ", ".join(due.reservation.key for due in dues[:3])
            message = f"{missing} more shared GPU(s) are reserved by {names}"
            move_idle(proposal, key, Mode.SHARED, missing, Reason.RESERVATION_DUE, message, now=float("inf"))
    return proposal.result()


def prefetch(state: PlanState) -> StageResult:
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
    return proposal.result()


def return_idle(state: PlanState) -> StageResult:
    """GPUs idle in passthrough beyond their cooldown and the headroom go to where pods wait for them, one group of
    equal pods after the other."""
    proposal = Proposal(state)
    if not any(group.free > state.headroom[key].keep for key, group in state.inventory.groups.items()):
        return proposal.result()  # waiting pods, which take long to look at, do not matter then
    surplus = _Surplus(proposal)
    wanted = _wanted_by_pods(state)
    _return_for_whole_pods(proposal, surplus)
    for key, group in state.inventory.groups.items():
        requests: list[tuple[int, Reason, _Request | None]] = [
            (ceil(request.cards - 1e-9), Reason.SHARED_DEMAND, request)
            for request in wanted.get(key, {}).values()
        ]
        idle_shared = group.shared - group.shared_busy
        if not requests and idle_shared < group.pool.shared.headroom:
            requests = [(group.pool.shared.headroom - idle_shared, Reason.HEADROOM, None)]
        for short, reason, request in requests:
            if short <= 0 or surplus[key] <= 0:
                continue
            message = (
                f"waiting pods need {short} more shared GPU(s) of {group.model}"
                if request is not None
                else f"pool {group.pool.name} keeps {group.pool.shared.headroom} shared GPU(s) idle"
            )
            surplus[key] -= move_idle(
                proposal,
                key,
                Mode.SHARED,
                min(short, surplus[key]),
                reason,
                message,
                now=state.snapshot.taken_at,
                may=request,
            )
    return proposal.result()


@dataclass(slots=True)
class _Request:
    """What waiting pods that may go to the same GPUs would fill of one group, beyond what they will find."""

    state: PlanState
    shape: PodShape
    cards: float = 0.0

    def wants(self, unit: Unit) -> bool:
        """Whether they accept a GPU of the unit."""
        return any(self.shape.accepts(gpu) for gpu in unit.gpus)

    def admits(self, name: NodeName) -> bool:
        """Whether they may run on the node, which has room for one of them at least."""
        placement, needs = self.shape.placement, self.shape.needs
        if self.state.node_filter.denial(placement, name, shared=True):
            return False
        return not needs or not self.state.resources_for_pods.lacks(name, needs)


class _Surplus(dict[GroupKey, int]):
    """GPUs that each group can spare for pods: free beyond the headroom, and falling free again in time. Worked out
    when it is asked for, which takes long."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__()
        self._proposal = proposal

    def __missing__(self, key: GroupKey) -> int:
        state = self._proposal.state
        surplus = state.inventory.groups[key].free - state.headroom[key].keep
        self[key] = min(surplus, spare_for_pods(self._proposal, key)) if surplus > 0 else 0
        return self[key]


def _return_for_whole_pods(proposal: Proposal, surplus: dict[GroupKey, int]) -> None:
    state, now = proposal.state, proposal.state.snapshot.taken_at
    unmet = [fit for fit in state.waiting_pods if fit.shape.whole and fit.unmet > 0]
    if not unmet:
        return
    movable: dict[NodeName, list[tuple[GroupKey, Unit]]] = {}
    for key in state.inventory.groups:
        if surplus[key] > 0:
            for name, node in proposal.nodes(key).items():
                units = [(key, unit) for unit in _movable(proposal, node, Mode.SHARED, now)]
                if units:
                    movable.setdefault(name, []).extend(units)
    resources = NodeResources({}, state.resources_for_pods)
    for fit in unmet:
        return_for_whole_pods(proposal, fit, surplus, movable, resources)


def _wanted_by_pods(state: PlanState) -> dict[GroupKey, dict[tuple[object, ...], _Request]]:
    """Cards that waiting pods of one part each would fill beyond what they will find, by the group that should give them
    and by the GPUs that they accept."""
    wanted: dict[GroupKey, dict[tuple[object, ...], _Request]] = {}
    for fit in state.waiting_pods:
        if fit.unmet <= 0 or fit.shape.whole:
            continue
        shape = fit.shape
        fitting = [
            (key, _free_where(state, group, shape.placement), cards)
            for key, group in state.inventory.groups.items()
            if shape.accepts_model(group.model)
            and (cards := cards_needed(fit, card_size(group))) < float("inf")
        ]
        if fitting:
            key, _, cards = max(fitting, key=lambda offer: (offer[1], offer[0][1]))
            where = (shape.placement, shape.allowed_uuids, shape.excluded_uuids)
            request = wanted.setdefault(key, {}).setdefault(where, _Request(state, shape))
            request.cards += cards
    return wanted


def _free_where(state: PlanState, group: GpuGroup, placement: Placement) -> int:
    """GPUs of the group that are free where such pods may run."""
    denials = state.node_filter.denials(placement, shared=True)
    if not any(denials.values()):
        return group.free
    return sum(at.free for name, at in group.nodes.items() if not denials[state.node_filter.kind_of(name)])


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
    proposal: Proposal,
    key: GroupKey,
    to_mode: Mode,
    gpus: int,
    reason: Reason,
    message: str,
    *,
    now: float,
    may: "_Request | None" = None,
) -> int:
    """Move up to `gpus` idle GPUs, where `may` says so of those that may; how many did. Nodes whose units fit the need best go first:
    emptying small remainders keeps whole nodes whole for VMs that need several GPUs."""
    moved = 0
    budget = proposal.budgets[key[0]]
    offers = []
    for name, node in proposal.nodes(key).items():
        units = _movable(proposal, node, to_mode, now)
        if may is not None and units:
            units = [unit for unit in units if may.wants(unit)] if may.admits(name) else []
        if units:
            left = node.free if to_mode is Mode.SHARED else sum(unit.size for unit in node.to_passthrough)
            offers.append((left, str(name), node, units))
    offers.sort(key=lambda offer: offer[:2])
    for _, _, node, units in offers:
        for unit in units:
            if moved >= gpus:
                return moved
            denial = budget.denial(to_mode, unit.size)
            if denial is not None:
                proposal.hold_back(key, denial)
                return moved
            proposal.move(key, unit, to_mode, reason, f"{name_of(unit.gpus[0])} is idle: {message}")
            moved += unit.size
            if to_mode is Mode.SHARED:
                proposal.take_free(key, node.node.name, unit.size)
    return moved
