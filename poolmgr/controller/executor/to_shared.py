"""Passthrough → shared: take idle GPUs of one node from the VMs' side and give them to HAMi."""

from poolmgr.domain.fleet import Node, Transition
from poolmgr.domain.modes import Step
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

from . import conditions, services
from .actions import Action, Advance, Rollback, Wait


def fence(node: Node, transition: Transition) -> Action:
    """The agent withdraws a GPU as soon as its desired mode changes; wait until the kubelet agrees."""
    gpus = conditions.moving(node, transition)
    if conditions.to_rebind(node, transition) and (closing := conditions.close_all(node)):
        return closing
    shown = tuple(g for g in gpus if g.advertised)
    if shown:
        return Wait(
            Reason.STEP_WAITING,
            f"waiting for the kubelet of {node.name} to stop offering {conditions.names(shown)} to VMs",
        )
    return Advance(
        Step.DRAIN, Reason.STEP_DONE, f"no longer offered to VMs: {conditions.names(gpus)} on {node.name}"
    )


def drain(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action:
    """Only idle GPUs are ever sent back. One that was taken before the fence stood goes back to its VM."""
    gpus = conditions.to_rebind(node, transition)
    users = conditions.users_of(snapshot, gpus)
    if users:
        return Rollback(
            Reason.GPU_BUSY,
            f"{conditions.user_names(users)} was given {conditions.names(users)} on {node.name} before it was withdrawn; "
            "it stays where it is",
        )
    if doubt := conditions.cannot_tell(node, snapshot, gpus):
        still = Wait(Reason.CANNOT_TELL, f"{doubt}; nothing is unbound until that is known")
        return conditions.reopened_but_for(node, gpus) or still
    return Advance(Step.DETACH, Reason.STEP_DONE, f"nothing uses {conditions.names(gpus)}")


def detach(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action:
    """HAMi's plugin looks for GPUs only at its start, so it stops now and starts again after the rebind."""
    gpus = conditions.to_rebind(node, transition)
    gpus += conditions.unlisted(node, (g for g in conditions.moving(node, transition) if g not in gpus))
    if gpus and (pending := services.renew(node) or conditions.detach_sharing(node, snapshot)):
        return pending
    return Advance(
        Step.REBIND, Reason.STEP_DONE, f"{node.name} is ready for {conditions.names(gpus)} to return"
    )


def attach(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action:
    """HAMi has registered every shared GPU of the node, the returned ones among them."""
    if pending := services.resume(node) or conditions.attach_sharing(node, snapshot, frozenset()):
        return pending
    there = tuple(g for g in conditions.moving(node, transition) if g.observed_mode is transition.to_mode)
    nameless = tuple(g for g in there if not g.uuid)
    if nameless and node.sharing is not None and not node.agent.heard:
        silent = node.agent.verdict(node.name)
        return Wait(
            silent.reason,
            f"only the agent can tell the UUID of {conditions.names(nameless)}, by which HAMi knows it: {silent.message}",
        )
    if nameless and node.sharing is not None:
        return Wait(
            Reason.REGISTRATION_PENDING,
            f"the driver has not yet reported the UUID of {conditions.names(nameless)} on {node.name}",
        )
    return Advance(
        Step.RELEASE, Reason.STEP_DONE, f"ready to be shared: {conditions.names(there)} on {node.name}"
    )
