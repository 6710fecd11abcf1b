"""What is said of each reservation: where it stands, how many GPUs are ready for its holders, and what keeps others off."""

from poolmgr.domain.calendar import window_text
from poolmgr.domain.denials import Denial
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import ReservationPhase, ReservationState
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import Reservation, Window
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.reservations import Due
from poolmgr.planner.stages.state import PlanState


def reservation_states(state: PlanState) -> tuple[ReservationState, ...]:
    """Of every reservation, in the snapshot's order."""
    due = {found.reservation.key: found for found in state.reserved.due}
    ready = _ready_for_vms(state)
    return tuple(
        _state(state, reservation, due.get(reservation.key), ready.get(reservation.key, 0))
        for reservation in state.snapshot.reservations
    )


def _state(state: PlanState, wanted: Reservation, due: Due | None, free: int) -> ReservationState:
    now, verdict = state.snapshot.taken_at, state.reserved.verdicts[wanted.key]
    window = wanted.window(now)
    phase, used, ready, ok = ReservationPhase.PENDING, 0, 0, True
    if window is None:
        phase = ReservationPhase.EXPIRED
        said: Denial = Reason.RESERVATION_OVER, "its last window is over"
    elif not verdict:
        phase, ok = ReservationPhase.REFUSED, False
        said = verdict.reason, verdict.message
    elif due is None:
        said = (
            Reason.RESERVATION_PENDING,
            f"{wanted.gpus} {wanted.model} are promised {window_text(window)}",
        )
    else:
        phase = ReservationPhase.PENDING if due.opens_in else ReservationPhase.ACTIVE
        used = min(due.used, wanted.gpus)
        ready = used + free if wanted.mode is Mode.PASSTHROUGH else due.ready_cards
        ok = ready >= wanted.gpus
        said = _of_due(state, due, window, ready)
    kept = 0
    if due is not None:
        kept = len(due.cards) if wanted.mode is Mode.SHARED else due.kept + due.given
    cards = tuple((card.node, card.uuid) for card in due.cards) if due else ()
    return ReservationState(
        wanted.namespace, wanted.name, wanted.generation, phase, window, ready, used, kept, cards, ok, *said
    )


def _ready_for_vms(state: PlanState) -> dict[str, int]:
    """By key: GPUs that are free in passthrough now and that nobody but holders is admitted to, those among them that
    holders who wait are about to get."""
    free: dict[GroupKey, int] = {}
    found: dict[str, int] = {}
    for due in state.reserved.of(Mode.PASSTHROUGH):
        left = due.kept + due.given
        for key in due.groups:
            if key not in free:
                free[key] = state.free_at_first.get(key, 0)
            give = min(left, free[key])
            free[key] -= give
            left -= give
            found[due.reservation.key] = found.get(due.reservation.key, 0) + give
    return found


def _of_due(state: PlanState, due: Due, window: Window, ready: int) -> Denial:
    wanted = due.reservation
    if wanted.mode is Mode.SHARED:
        how = "its GPUs are closed to other users' new pods"
    else:
        how = "poolmgr admits no other VM to them"
        before = sum(
            vm.admitted and state.reserved.may_wait(vm, state.inventory)
            for vm in state.snapshot.vms
            if vm.node is None and state.reserved.holder(vm) is None
        )
        if before:
            how += (
                f", but {before} VM(s) of other users were admitted earlier and still wait: they may take one"
            )
    when = window_text(window)
    if ready >= wanted.gpus:
        return Reason.RESERVATION_READY, f"all {wanted.gpus} GPU(s) are ready {when}; {how}"
    return (
        Reason.RESERVATION_SHORT,
        f"{ready} of {wanted.gpus} GPU(s) are ready {when}; the others are in use or moving, and poolmgr does not disturb "
        f"their users; {how}",
    )
