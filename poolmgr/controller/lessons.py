"""What a move teaches: who rests after a failure, and what it cost the pods of its node. Pure."""

from collections.abc import Iterable

from poolmgr.controller.executor.conditions import given_out, moving, to_rebind, withdrawn
from poolmgr.controller.executor.to_passthrough import MOVES_AHEAD_OF_DEMAND
from poolmgr.domain import backoff
from poolmgr.domain.backoff import WHOLE_NODE, Backoff, Disturbance
from poolmgr.domain.fleet import Node, Transition
from poolmgr.domain.identifiers import GpuUuid, PciAddress
from poolmgr.domain.modes import DevicePhase, Step
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import not_listed


def after_failure(
    node: Node, transition: Transition, reason: Reason, message: str, now: float
) -> tuple[Backoff, ...]:
    """The pauses of `node` once `transition`, still at the step that failed, is undone."""
    whom = _blamed(node, transition, reason)
    return backoff.failed(node.backoffs, node.name, whom, reason.value, message, now)


def _blamed(node: Node, transition: Transition, reason: Reason) -> tuple[PciAddress, ...]:
    step = transition.step
    if reason in (Reason.DRIVER_CHANGING, Reason.GPUS_OF_OTHERS):
        return ()  # somebody else's doing; the planner sees when it is over
    if reason is Reason.MOVE_PARKED:
        return (WHOLE_NODE,)
    if reason is Reason.AGENT_SILENT:
        # Noted when it was parked, where that has been; nothing was closed yet at Intend.
        return (WHOLE_NODE,) if Step.INTEND.order < step.order < Step.ATTACH.order else ()
    if step is Step.DRAIN and (reason is Reason.GPU_BUSY or transition.reason in MOVES_AHEAD_OF_DEMAND):
        return ()  # somebody uses it, which the planner sees, or it was closed ahead and its pods ran on: no failure
    if step in (Step.FENCE, Step.DETACH, Step.ATTACH):
        return (WHOLE_NODE,)  # kubelet or HAMi: any other GPU of the node would fare the same
    late = to_rebind(node, transition) or moving(node, transition)
    gpus = tuple(gpu.pci_address for gpu in late)
    disturbed = node.sharing is not None and step.order > Step.DETACH.order
    return (WHOLE_NODE, *gpus) if disturbed else gpus


def rest_words(node: Node, after: tuple[Backoff, ...]) -> str:
    """What a failure on `node` meant for who rests, as the end of a sentence; empty where nobody does."""
    new = [b for b in after if b not in node.backoffs]
    if not new:
        return ""
    longest = max(new, key=lambda b: b.until)
    who = node.name if longest.pci_address == WHOLE_NODE else f"GPU {longest.pci_address}"
    return f"; {who} is not moved before {backoff.utc(longest.until)}"


def after_end(node: Node, transition: Transition, now: float) -> tuple[Backoff, ...]:
    """The pauses of `node` once `transition` is over. Undone ones were counted when they were rolled back, and what was
    only put right after a reboot is no success of a plan."""
    if transition.rollback or transition.reason == Reason.DRIFTED:
        return node.backoffs
    gpus = moving(node, transition)
    failed = {g.pci_address: (g.reason, g.message) for g in gpus if g.phase is DevicePhase.QUARANTINED}
    there = [g for g in gpus if g.observed_mode is transition.to_mode and g.pci_address not in failed]
    for gpu in there:
        if (said := not_listed(gpu, node)) is not None:
            failed[gpu.pci_address] = (said.reason.value, said.message)
    arrived = [g.pci_address for g in there if g.pci_address not in failed]
    known = backoff.succeeded(node.backoffs, arrived) if arrived else node.backoffs
    for address, (reason, message) in failed.items():
        known = backoff.failed(known, node.name, (address,), reason, message, now)
    return known


def disturbances_at(node: Node, transition: Transition, to: Step, now: float) -> tuple[Disturbance, ...]:
    """What `node` was put to once the transition goes on to `to`: at Detach HAMi's plugin is stopped. For as long as the
    transition has kept GPUs closed by then, it has begun before."""
    known = node.disturbances
    if to is not Step.DETACH or node.sharing is None or not node.sharing.plugin_wanted:
        return known
    counted = _is_counted(known, transition)
    if counted and not transition.rollback:
        return known  # somebody came onto the GPU and it was drained once more
    if counted:
        return backoff.begun(known, now, again=True)
    closed = _closed_for(node, transition, _closed(node, transition), now)
    if closed >= backoff.CLOSED_SECONDS_AN_HOUR:  # what lasts is forgotten an hour after its beginning
        return backoff.begun(backoff.closed(known, closed, now), now)
    return backoff.begun(known, now, since=max(transition.started_at, now - closed))


def disturbances_in_vain(
    node: Node, transition: Transition, devices: Iterable[PciAddress], now: float
) -> tuple[Disturbance, ...]:
    """What `node` was put to where these devices of the transition are given up at its present step: nothing more where HAMi's
    plugin has been stopped for it, as all of its time counts until its end."""
    known = node.disturbances
    if transition.step.order >= Step.DETACH.order or _is_counted(known, transition):
        return known
    closed, going = _closed(node, transition), set(devices)
    if going < set(transition.devices):
        closed &= {gpu.uuid for gpu in node.gpus if gpu.pci_address in going}
    return backoff.closed(known, _closed_for(node, transition, closed, now), now)


def _is_counted(known: tuple[Disturbance, ...], transition: Transition) -> bool:
    return bool(known) and known[-1].started_at >= transition.started_at and not known[-1].closed_seconds


def _closed(node: Node, transition: Transition) -> frozenset[GpuUuid]:
    """GPUs that HAMi gives out on the node and that the transition keeps new pods off: its own, be it by our webhook alone, and
    all that HAMi's device cordon has by us."""
    all_of_them, sharing = given_out(node), node.sharing
    if node.cordoned_by_us:
        return all_of_them
    cordoned = sharing.closing - withdrawn(node) if sharing is not None else frozenset()
    return all_of_them & (cordoned | {gpu.uuid for gpu in moving(node, transition)})


def _closed_for(node: Node, transition: Transition, closed: frozenset[GpuUuid], now: float) -> float:
    """Seconds of the whole node: GPUs that are closed alone count by their part of it. What is closed now is taken to have been
    closed since the transition began; HAMi's other GPUs are closed while it is short, and opened again while it waits."""
    all_of_them = given_out(node) if node.sharing is not None else frozenset()
    if not all_of_them:
        return 0.0
    return max(0.0, now - transition.started_at) * len(closed) / len(all_of_them)
