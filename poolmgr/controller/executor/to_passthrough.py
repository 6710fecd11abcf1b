"""Shared → passthrough: take GPUs of one node away from HAMi and give them to VMs."""

from collections.abc import Mapping

from poolmgr.domain.fleet import EvictionRule, Gpu, Granularity, Node, Pool, Transition
from poolmgr.domain.modes import Step
from poolmgr.domain.offers import unoffered
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import User

from . import conditions, services
from .actions import Action, Advance, Evict, FenceGpus, Perform, Shrink, Wait


def fence(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action:
    """Close the GPUs to new pods: by HAMi's device cordon where it has one, by our webhook everywhere.

    While they are in use the others stay open, so that pods go on landing there. Where nobody has to be waited for, the
    others are closed at once, for the time in which HAMi's plugin restarts: its scheduler then reads both at one look.
    """
    if hold := services.hold_upgrades(node):
        return hold
    gpus = conditions.moving(node, transition)
    uuids = frozenset(g.uuid for g in gpus if g.uuid)
    sharing = node.sharing
    if sharing is not None and conditions.closes_gpus(sharing) and not uuids <= sharing.fenced:
        idle = not conditions.users_of(snapshot, gpus) and not node.cordoned
        if idle and conditions.to_rebind(node, transition):
            uuids |= conditions.given_out(node)
        return Perform(
            (FenceGpus(uuids | conditions.withdrawn(node)),),
            Reason.STEP_STARTED,
            f"closing {conditions.names(gpus)} on {node.name} to new vGPU pods",
        )
    return Advance(
        Step.DRAIN, Reason.STEP_DONE, f"closed to new vGPU pods: {conditions.names(gpus)} on {node.name}"
    )


def drain(node: Node, transition: Transition, snapshot: ClusterSnapshot, pools: dict[str, Pool]) -> Action:
    """Wait until nobody uses the GPUs; evict only best-effort pods, and only where the pool says so."""
    gpus = conditions.to_rebind(node, transition)
    users = conditions.users_of(snapshot, gpus)
    if not users:
        if doubt := conditions.cannot_tell(node, snapshot, gpus):
            still = Wait(Reason.CANNOT_TELL, f"{doubt}; nothing is unbound until that is known")
            return conditions.reopened_but_for(node, gpus) or still
        return Advance(Step.DETACH, Reason.STEP_DONE, f"{conditions.names(gpus)} is no longer in use")
    rules = {pools[g.pool].eviction for g in gpus if g.pool in pools}
    empty = _empty_units(gpus, users, pools)
    if empty and transition.reason in MOVES_AHEAD_OF_DEMAND and not transition.rollback:
        return Shrink(
            tuple(g.pci_address for g in empty),
            Reason.STEP_DONE,
            f"{conditions.names(empty)} is no longer in use and moves now; the other GPUs of this move are reopened",
        )
    pods = conditions.pods_on(snapshot, gpus)
    leaving = [p for p in pods if not p.terminating]
    if rules == {EvictionRule.BEST_EFFORT} and transition.reason == Reason.VM_WAITING:
        asked = [p for p in leaving if p.best_effort and p.evictable]
        if asked:
            return Perform(
                tuple(Evict(p.uid, p.namespace, p.name) for p in asked),
                Reason.DRAIN_WAITING,
                f"evicting best-effort pod(s) {conditions.pod_names(asked)} for a waiting VM, as the pool's eviction "
                "rule allows",
            )
    if reopened := conditions.reopened_but_for(node, gpus):
        return reopened
    return Wait(
        Reason.DRAIN_WAITING,
        f"waiting for {conditions.user_names(users)} to leave {conditions.names(gpus)}; nothing is unbound until then",
    )


MOVES_AHEAD_OF_DEMAND = (Reason.HEADROOM, Reason.RESERVATION_DUE)
"""GPUs that are to be ready ahead of demand: any of them will do, so the first to be empty go first."""


def _empty_units(
    gpus: tuple[Gpu, ...], users: Mapping[Gpu, tuple[User, ...]], pools: dict[str, Pool]
) -> tuple[Gpu, ...]:
    """Those of `gpus` without users whose bundle (the NVSwitch domain, or the node where the pool moves whole
    nodes) has none either."""
    bundles: dict[str, list[Gpu]] = {}
    for gpu in gpus:
        pool = pools.get(gpu.pool) if gpu.pool else None
        if pool is not None and pool.granularity is Granularity.NODE:
            bundle = "node"
        else:
            bundle = gpu.nvswitch_domain or gpu.pci_address
        bundles.setdefault(bundle, []).append(gpu)
    empty = [unit for unit in bundles.values() if not any(gpu in users for gpu in unit)]
    return tuple(gpu for unit in empty for gpu in unit)


def detach(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action:
    """Have HAMi let go of the node, after one more look that nobody slipped in."""
    gpus = conditions.to_rebind(node, transition)
    users = conditions.users_of(snapshot, gpus)
    if users:
        return Advance(
            Step.DRAIN,
            Reason.DRAIN_WAITING,
            f"{conditions.user_names(users)} started to use {conditions.names(users)} in the meantime; draining again",
        )
    if doubt := conditions.cannot_tell(node, snapshot, gpus):
        if node.cordoned_by_us or (node.sharing is not None and not node.sharing.plugin_wanted):
            return Wait(Reason.CANNOT_TELL, doubt)
        return Advance(Step.DRAIN, Reason.CANNOT_TELL, f"{doubt}; nothing is disturbed until that is known")
    # Services first: where one does not end, HAMi has not been disturbed in vain.
    if pending := services.pause(node, gpus):
        return pending
    if gpus and (pending := conditions.detach_sharing(node, snapshot)):
        return pending
    return Advance(Step.REBIND, Reason.STEP_DONE, f"HAMi has let go of {conditions.names(gpus)}")


def attach(node: Node, transition: Transition, snapshot: ClusterSnapshot) -> Action:
    """HAMi has the GPUs that stay, the kubelet shows the ones that moved."""
    gpus = conditions.moving(node, transition)
    gone = frozenset(g.uuid for g in gpus if g.uuid)
    if back := services.resume(node):
        return back
    if pending := conditions.attach_sharing(node, snapshot, gone):
        return pending
    moved = tuple(g for g in gpus if g.observed_mode is transition.to_mode)
    hidden = tuple(g for g in moved if not g.advertised and g.closed is None)
    # The scheduler goes by the Node alone, which the kubelet writes every 10 s.
    resources = {g.resource_name for g in moved}
    unseen = hidden or (moved if any(g.resource_name in resources for g in unoffered(node)) else ())
    if unseen and not node.agent.heard:
        silent = node.agent.verdict(node.name)
        return Wait(
            silent.reason,
            f"{conditions.names(unseen)} is on its driver for VMs, and only the agent can offer it to them: {silent.message}",
        )
    if unseen:
        what = "show" if hidden else "offer"
        where = "" if hidden else " on its Node"
        return Wait(
            Reason.STEP_WAITING,
            f"waiting for the kubelet of {node.name} to {what} {conditions.names(unseen)} to VMs{where}",
        )
    return Advance(Step.RELEASE, Reason.STEP_DONE, f"ready for VMs: {conditions.names(moved)} on {node.name}")
