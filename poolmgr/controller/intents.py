"""From decisions to what is written in `GPUNode.spec`. Pure.

Desired modes and the transition are written as one value: a reader never sees one without the other.
"""

from collections.abc import Iterable
from dataclasses import replace

from poolmgr.controller import lessons
from poolmgr.controller.executor import conditions, services
from poolmgr.domain import backoff
from poolmgr.domain.directives import Directives
from poolmgr.domain.fleet import Gpu, Node, Transition
from poolmgr.domain.identifiers import LeaseEpoch, PciAddress, PlanId
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Move
from poolmgr.domain.reasons import Reason

ADOPTED = PlanId("adopted")
"""Plan id of a GPU that was taken over in the mode in which it was found."""


def current(node: Node) -> NodeIntent:
    """What the node's spec says now."""
    return NodeIntent(
        desired=tuple(
            (g.pci_address, g.desired_mode, g.desired_plan_id)
            for g in node.gpus
            if g.desired_mode is not None
        ),
        transition=node.transition,
        backoffs=node.backoffs,
        disturbances=node.disturbances,
    )


def adopt(node: Node) -> NodeIntent | None:
    """An intent that takes over GPUs without a desired mode as they are, or None if there are none, or a move is under way.

    A GPU on no driver is taken over as Shared: its vendor's driver is where it came from. Those that somebody else
    manages are not taken over.
    """
    if node.neighbours.lasting or node.transition is not None:
        return None
    new = [g for g in node.gpus if g.desired_mode is None and _adoptable(g)]
    if not new:
        return None
    present = current(node)
    return replace(
        present,
        desired=present.desired
        + tuple((g.pci_address, g.observed_mode or Mode.SHARED, ADOPTED) for g in new),
    )


def as_adopted(node: Node) -> Node:
    """The node as it is once `adopt` is written: for a plan of a cluster that no manager has seen yet."""
    intent = None if node.complaint else adopt(node)
    if intent is None:
        return node
    modes = {address: mode for address, mode, _ in intent.desired}
    return replace(
        node,
        gpus=tuple(
            replace(g, desired_mode=modes[g.pci_address], desired_plan_id=ADOPTED)
            if g.desired_mode is None and g.pci_address in modes
            else g
            for g in node.gpus
        ),
    )


def repair(node: Node, epoch: LeaseEpoch, now: float) -> NodeIntent | None:
    """An intent that brings GPUs back to their desired mode, or None where all are there.

    After a reboot every GPU comes up on its vendor's driver and HAMi registers what it finds; an undone move
    whose agent came back late leaves a GPU on the wrong side. Either way the whole recipe has to be gone
    through again, since the other side has the GPU in its books. One direction at a time.
    """
    gpus = drifted(node)
    settled = node.ready and node.reported and node.neighbours.verdict
    if not gpus or node.transition is not None or not settled:
        return None
    to_mode = gpus[0].desired_mode
    assert to_mode is not None
    same_way = tuple(g for g in gpus if g.desired_mode is to_mode)
    plan_id = same_way[0].desired_plan_id or ADOPTED
    return replace(
        current(node),
        desired=_with_mode(current(node), tuple(g.pci_address for g in same_way), to_mode, plan_id),
        transition=Transition(
            node=node.name,
            plan_id=plan_id,
            epoch=epoch,
            to_mode=to_mode,
            devices=tuple(g.pci_address for g in same_way),
            step=Step.INTEND,
            started_at=now,
            step_started_at=now,
            reason=Reason.DRIFTED.value,
            message=f"{len(same_way)} GPU(s) of {node.name} are in {to_mode.other.value}, but their desired mode is "
            f"{to_mode.value}",
        ),
    )


def drifted(node: Node) -> list[Gpu]:
    """GPUs that are found in the other mode than the one they are wanted in, where it is poolmgr that wants it."""
    if node.neighbours.lasting:
        return []
    return [
        g
        for g in node.gpus
        if g.observed_mode is not g.desired_mode
        and g.desired_mode is not None
        and g.observed_mode is g.desired_mode.other
        and g.phase is not DevicePhase.QUARANTINED
    ]


def at_rest(node: Node) -> bool:
    """True where nothing has to be adopted, repaired or advanced, or where nothing may be: it stays so for as long as
    the node is the same."""
    return bool(node.complaint) or (
        node.transition is None
        and adopt(node) is None
        and not drifted(node)
        and not node.retry
        and not node.directives.forgotten
        and services.at_rest(node) is None
        and conditions.fence_at_rest(node) is None
    )


def begin(node: Node, moves: tuple[Move, ...], plan_id: PlanId, epoch: LeaseEpoch, now: float) -> NodeIntent:
    """The intent that starts these moves; all are of `node` and go the same way."""
    to_mode = moves[0].to_mode
    if any(m.node != node.name or m.to_mode is not to_mode for m in moves) or node.transition is not None:
        raise ValueError("moves of one intent share their node and direction, and nothing moves there yet")
    devices = tuple(m.pci_address for m in moves)
    return replace(
        current(node),
        desired=_with_mode(current(node), devices, to_mode, plan_id),
        transition=Transition(
            node=node.name,
            plan_id=plan_id,
            epoch=epoch,
            to_mode=to_mode,
            devices=devices,
            step=Step.INTEND,
            started_at=now,
            step_started_at=now,
            reason=moves[0].reason.value,
            message=moves[0].message if len(moves) == 1 else f"{len(moves)} GPUs: {moves[0].message}",
        ),
    )


def at_step(node: Node, to: Step, epoch: LeaseEpoch, now: float) -> NodeIntent:
    """The same transition at its next step, under this leader's epoch."""
    transition = _transition(node)
    disturbances = lessons.disturbances_at(node, transition, to, now)
    following = replace(transition, step=to, step_started_at=now, epoch=epoch)
    return replace(current(node), transition=following, disturbances=disturbances)


def with_epoch(node: Node, epoch: LeaseEpoch) -> NodeIntent:
    """The same transition under a new leader's epoch; the step's clock runs on."""
    return replace(current(node), transition=replace(_transition(node), epoch=epoch))


def rolled_back(
    node: Node, step: Step, reason: Reason, message: str, epoch: LeaseEpoch, now: float
) -> NodeIntent:
    """The transition reversed: every device is wanted back in the mode that it came from. Whoever it failed for rests."""
    transition = _transition(node)
    origin = transition.to_mode.other
    return replace(
        current(node),
        desired=_with_mode(current(node), transition.devices, origin, transition.plan_id),
        transition=replace(
            transition,
            to_mode=origin,
            step=step,
            step_started_at=now,
            epoch=epoch,
            reason=reason.value,
            message=message,
            rollback=True,
        ),
        backoffs=lessons.after_failure(node, transition, reason, message, now),
        disturbances=lessons.disturbances_in_vain(node, transition, transition.devices, now),
    )


def shrunk(node: Node, devices: tuple[PciAddress, ...], epoch: LeaseEpoch, now: float) -> NodeIntent:
    """The same transition with these of its devices; the others are wanted where they came from. The step's
    clock runs on. Of the others none may be rebound yet."""
    transition = _transition(node)
    dropped = tuple(d for d in transition.devices if d not in devices)
    return replace(
        current(node),
        desired=_with_mode(current(node), dropped, transition.to_mode.other, transition.plan_id),
        transition=replace(transition, devices=devices, epoch=epoch),
        disturbances=lessons.disturbances_in_vain(node, transition, dropped, now),
    )


def parked(node: Node, message: str, epoch: LeaseEpoch, now: float) -> NodeIntent:
    """The same transition at Attach, and the node rests from that instant: together they say that it is parked
    (`usage.is_parked`). HAMi is about to be given back, so what the node is put to ends here."""
    disturbances = backoff.ended(node.disturbances, _transition(node).started_at, now)
    intent = replace(at_step(node, Step.ATTACH, epoch, now), disturbances=disturbances)
    return with_failure(intent, node, Reason.MOVE_PARKED, message, now)


def with_failure(intent: NodeIntent, node: Node, reason: Reason, message: str, now: float) -> NodeIntent:
    """`intent`, and whoever the move of `node` failed for so far rests."""
    return replace(intent, backoffs=lessons.after_failure(node, _transition(node), reason, message, now))


def ended(node: Node, now: float) -> NodeIntent:
    transition = _transition(node)
    return replace(
        current(node),
        transition=None,
        backoffs=lessons.after_end(node, transition, now),
        disturbances=backoff.ended(node.disturbances, transition.started_at, now),
    )


def heeded(node: Node) -> NodeIntent | None:
    """An intent that does what an operator asks with an annotation: nobody named there rests any more. None where nothing
    is asked; while a move is under way it waits."""
    if not node.retry or node.transition is not None:
        return None
    return retried(node, node.retry)


def retried(node: Node, asked: str) -> NodeIntent:
    """`asked` as in `Node.retry`."""
    return replace(current(node), backoffs=backoff.retried(node.backoffs, asked), retry_heeded=True)


def forgotten(node: Node) -> NodeIntent | None:
    """An intent that wants nothing any more of cards that are gone for good, as an operator says. None where nothing of
    that is left to do; while a move is under way it waits."""
    if node.transition is not None:
        return None
    gone = [g.pci_address for g in node.gpus if g.pci_address in node.directives.forgotten and is_gone(g)]
    present = current(node)
    desired = tuple(entry for entry in present.desired if entry[0] not in gone)
    backoffs = tuple(b for b in present.backoffs if b.pci_address not in gone)
    if (desired, backoffs) == (present.desired, present.backoffs):
        return None
    return replace(present, desired=desired, backoffs=backoffs)


def fulfilled(node: Node) -> Directives | None:
    """The directives without those to forget cards that the node reports no more, or that are on their bus after all. None
    where all stand."""
    waiting = {g.pci_address for g in node.gpus if is_gone(g)}
    left = node.directives.forgotten & waiting
    return None if left == node.directives.forgotten else replace(node.directives, forgotten=frozenset(left))


def is_gone(gpu: Gpu) -> bool:
    """Its agent says that it is no longer on its bus."""
    return gpu.phase is DevicePhase.QUARANTINED and gpu.reason == Reason.DEVICE_GONE


def by_node(moves: Iterable[Move]) -> dict[str, tuple[Move, ...]]:
    """Moves grouped by node, in the plan's order; of two directions on one node the first wins."""
    groups: dict[str, list[Move]] = {}
    for move in moves:
        group = groups.setdefault(move.node, [])
        if not group or group[0].to_mode is move.to_mode:
            group.append(move)
    return {node: tuple(group) for node, group in groups.items()}


def _adoptable(gpu: Gpu) -> bool:
    return gpu.observed_mode is not None or gpu.phase.value == "Unbound"


def _transition(node: Node) -> Transition:
    assert node.transition is not None
    return node.transition


def _with_mode(
    intent: NodeIntent, devices: tuple[PciAddress, ...], mode: Mode, plan_id: PlanId
) -> tuple[tuple[PciAddress, Mode, PlanId], ...]:
    others = tuple(entry for entry in intent.desired if entry[0] not in devices)
    return tuple(sorted((*others, *((address, mode, plan_id) for address in devices))))
