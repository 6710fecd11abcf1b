"""What becomes of a move whose agent is silent: a short wait, then HAMi and the node are given back. Pure.

Before Rebind no agent has been told to touch a GPU, so the GPUs are where they were and the move is undone without it. From
Rebind on nobody knows where they are, and at Attach only the agent can offer them to VMs or take them back: the move is parked. HAMi gets back what is surely its own, the GPUs of the move stay
closed, and the agent, which acts at Rebind alone, finds Attach when it comes back and touches no GPU that is on a driver. What it
then says decides.
"""

from poolmgr.domain.fleet import Gpu, Node, Transition
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import DevicePhase, Step
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import User, has_said

from . import conditions, services
from .actions import Action, Advance, Cordon, Park, Perform, Rollback, Shrink, Wait


def wait_or_give_up(node: Node, transition: Transition, now: float, patience: float, limit: float) -> Action:
    """The next action of a move that has not come to Attach. `patience`: seconds of silence that it waits for; `limit`: what
    the step may take besides, so that an agent that comes and goes holds nobody up for ever."""
    silent = node.agent.verdict(node.name)
    step = transition.step
    moving = conditions.moving(node, transition)
    untouched = step.order < Step.REBIND.order and all(
        g.observed_mode is transition.to_mode.other for g in moving
    )
    if not has_waited_enough(node, transition, now, patience, limit):
        reopened = conditions.reopened_but_for(node, moving) if node.agent.silent and untouched else None
        return reopened or Wait(
            silent.reason, f"{step.value} waits, {patience:.0f} s at most: {silent.message}"
        )
    gpus = conditions.names(moving)
    if untouched and not transition.rollback:
        return Rollback(
            silent.reason,
            f"{step.value} has waited long enough for {gpus}, not touched yet: {silent.message}",
        )
    return Park(
        silent.reason,
        f"HAMi gets {node.name} back; of {gpus} nobody knows on which driver they are until the agent says so: {silent.message}",
    )


def park_arrived(node: Node, transition: Transition) -> Park:
    """Of a move at Attach whose agent has said that the GPUs are on their new driver: what is left to do, or to undo, is the
    agent's."""
    silent = node.agent.verdict(node.name)
    gpus, mode = conditions.names(conditions.moving(node, transition)), transition.to_mode.value
    return Park(
        silent.reason,
        f"HAMi gets {node.name} back; {gpus} was last on its driver for {mode} and serves once the agent is back: {silent.message}",
    )


def has_waited_enough(node: Node, transition: Transition, now: float, patience: float, limit: float) -> bool:
    """The move has waited for its agent, which is silent, as long as one may; the arguments are those of `wait_or_give_up`."""
    if not node.agent.silent:
        return False
    # Where no manager saw its heartbeat change, since when it is silent comes from the agent's own clock.
    since = node.agent.since if node.agent.since <= now else 0.0
    begun = transition.step_started_at
    return now - max(begun, since) > patience or now - begun > limit + patience


def while_parked(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action | None:
    """The next action of a parked move; None where it is known where all its GPUs are, and Attach goes on as ever."""
    moving = conditions.moving(node, transition)
    if not has_said(node):
        return _give_back(node, snapshot, moving) or _wait(node, snapshot, moving)
    gpus = [g for g in moving if g.phase is not DevicePhase.QUARANTINED]
    there = [g for g in gpus if g.observed_mode is transition.to_mode and g.phase is DevicePhase.READY]
    stayed = [g for g in gpus if g.observed_mode is transition.to_mode.other and g.phase is DevicePhase.READY]
    if nowhere := [g for g in gpus if g not in there and g not in stayed]:
        said = f"the agent of {node.name} has not brought {conditions.names(nowhere)} onto a driver of its modes yet"
        return Wait(Reason.STEP_WAITING, said)
    if stayed and not transition.rollback:
        said = (
            f"{conditions.names(stayed)} on {node.name} is {transition.to_mode.other.value} now that its agent is heard again: not "
            "rebound when it fell silent, or back since a reboot"
        )
        if there:
            return Shrink(tuple(g.pci_address for g in there), Reason.AGENT_SILENT, said)
        return Rollback(Reason.AGENT_SILENT, said)
    running = node.sharing is not None and node.sharing.plugin_ready
    if running and (unlisted := conditions.unlisted(node, there)):
        return Advance(
            Step.DETACH,
            Reason.REGISTRATION_PENDING,
            f"HAMi's plugin came back to {node.name} before {conditions.names(unlisted)} was on its driver; it has to look again",
        )
    return None


def _wait(node: Node, snapshot: ClusterSnapshot, unsure: tuple[Gpu, ...]) -> Wait:
    """What it says of who may get them is no more than what keeps others off: HAMi's device cordon keeps pods off, nothing
    keeps the kubelet from giving a VM a GPU that has arrived."""
    silent = node.agent.verdict(node.name)
    said = silent.message or f"the agent of {node.name} is heard again and has not said yet where they are"
    users = conditions.users_of(snapshot, unsure)
    closed = node.sharing.closing if node.sharing is not None else frozenset()
    states = [_state(gpu, users.get(gpu, ()), closed) for gpu in unsure]
    return Wait(Reason.AGENT_SILENT, f"{'; '.join(states)}: {said}")


def _state(gpu: Gpu, users: tuple[User, ...], closed: frozenset[GpuUuid]) -> str:
    name = conditions.names([gpu])
    if users:
        return f"{conditions.user_names({gpu: users})} has {name}"
    if gpu.uuid in closed:
        return f"{name} is closed to new vGPU pods"
    return f"nobody knows on which driver {name} is"


def _give_back(node: Node, snapshot: ClusterSnapshot, unsure: tuple[Gpu, ...]) -> Action | None:
    """Next action until HAMi and the operator's services have the node back but for `unsure`, or None when they have."""
    if back := services.resume(node):
        return back
    closed = frozenset(g.uuid for g in unsure if g.uuid)
    if pending := conditions.attach_sharing(node, snapshot, frozenset(), closed):
        return pending
    if node.cordoned_by_us or (node.sharing is not None and node.sharing.asked_for):
        return Perform((Cordon(False),), Reason.STEP_STARTED, f"reopening {node.name} to new workloads")
    return None
