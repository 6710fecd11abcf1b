"""What ends the wait where no GPU is free: the one answer for containers, and for machines of one kind of GPU or of several.

A conversion is promised only where one node has, or may come to have, all that is asked for: GPUs that poolmgr moves by
itself and that nothing but their users holds in their mode. What the manager does first, and when, is not known here.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import moves_by_itself
from webhooks.fleet_view import ModelView
from webhooks.wording import listing

TIME_IN_EVENTS = "its Events say how long that takes here"
"""What a move takes, and when a GPU falls idle, is measured by the manager and not known here."""
READ_ON = "`kubectl get gpunodes -o yaml` says"

HELD_WORDS = {
    Reason.CANNOT_TELL: "it cannot be told whether they are in use",
    Reason.GPU_CORDONED: "an operator keeps them",
    Reason.NODE_DRAINED: "an operator is draining their node to that side",
    Reason.RECENTLY_FAILED: "they rest after failed moves",
    Reason.DISTURBANCE_SPENT: "moves have disturbed their nodes enough for this hour",
    Reason.NOT_IN_POOL: "they belong to no GPUPool",
    Reason.RECOMMEND_ONLY: "their GPUPool only recommends moves",
    Reason.POOL_OFF: "rebalancing of their GPUPool is Off",
    Reason.BOOT_DISPLAY: "the console of their node is on them",
    Reason.MIG_ENABLED: "they are in MIG mode",
    Reason.NO_IOMMU: "they have no IOMMU group",
    Reason.IOMMU_GROUP_SHARED: "they share an IOMMU group with other GPUs",
    Reason.GROUP_NOT_VIABLE: "they share an IOMMU group with devices that cannot move with them",
    Reason.INVALID_REQUEST: "the specs of their GPUNodes are not understood",
}
"""What holds GPUs in their mode, in words about several."""
HELD_OTHERWISE = "their agent or their hardware does not let them move"
"""For a reason that is rare or that an agent of a newer release gives."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """GPUs of one kind, of which a request needs `number` on one node."""

    views: Sequence[ModelView]
    number: int


def what_ends_the_wait(
    wanted: Sequence[Wanted], mode: Mode, nodes: Collection[NodeName] | None = None
) -> str:
    """For somebody who waits for all of `wanted` in `mode` on one of `nodes` (None: of any): what has to happen, as a
    clause."""
    obstacle = next(filter(None, (_obstacle(one, mode, nodes) for one in wanted)), "")
    if obstacle:
        return obstacle
    if not any(
        all(_on(node, one, mode) >= one.number for one in wanted) for node in _nodes(wanted[0], mode, nodes)
    ):
        return _held(wanted, mode)
    return _promise(wanted, mode)


def _promise(wanted: Sequence[Wanted], mode: Mode) -> str:
    number = wanted[0].number
    arrives = number == 1 and any(view.outlook[mode].arriving for view in wanted[0].views)
    if mode is Mode.SHARED:
        if arrives:
            return "one is being converted: the pod will wait for it"
        return "the pod will wait until poolmgr can convert one that no virtual machine uses"
    if len(wanted) > 1:
        return "poolmgr moves them on one node as soon as they are idle there"
    if arrives:
        return f"one is being converted; more follow if others wait too; {TIME_IN_EVENTS}"
    if number == 1:
        return f"poolmgr will convert a shared GPU as soon as one is idle; {TIME_IN_EVENTS}"
    return f"poolmgr will convert {number} on one node as soon as that many are idle there"


def _obstacle(one: Wanted, mode: Mode, nodes: Collection[NodeName] | None) -> str:
    """Why none of the kind is converted for it, in the order of what an operator would look at; empty where one is not
    needed, or may be converted."""
    views, for_vms = one.views, mode is Mode.PASSTHROUGH
    outlooks = [view.outlook[mode] for view in views]
    if any(
        sum(outlook.given.get(node, 0) for outlook in outlooks) >= one.number
        for node in _nodes(one, mode, nodes)
    ):
        return ""
    unusable = sum(view.unusable for view in views)
    if unusable == sum(view.gpus for view in views):
        return (
            f"none of the {unusable} GPU(s) of its kind can be used: they need an administrator ({READ_ON} why), or "
            "their nodes take no workloads"
        )
    if not any(outlook.movable or outlook.held for outlook in outlooks):
        beside = f", and {unusable} cannot be used" if unusable else ""
        return f"VMs already use all of them{beside}: it starts when enough VMs stop" if for_vms else ""
    if not any(outlook.movable for outlook in outlooks) and (by_rule := _held_by_pools(views, mode)):
        return by_rule
    if for_vms and _taken(views) + one.number > sum(view.limits[mode] for view in views):
        return f"VMs already have as many as the limit allows ({limits_of(views)}): it starts when another VM stops"
    return ""


def _held_by_pools(views: Iterable[ModelView], mode: Mode) -> str:
    """What to say where nothing but their pools, or that they have none, holds the GPUs."""
    reasons = {reason for view in views for reason in view.outlook[mode].held}
    if reasons == {Reason.NOT_IN_POOL}:
        return (
            "they belong to no GPUPool, so poolmgr does not move them: ask your administrator for a GPUPool"
        )
    if not reasons or not reasons <= {Reason.RECOMMEND_ONLY, Reason.POOL_OFF}:
        return ""
    pools = (pool for view in views for pool in view.pools if not moves_by_itself(pool))
    if (pool := next(pools, None)) is None:
        return ""
    if pool.complaint:
        waits = ": it starts when another VM stops" if mode is Mode.PASSTHROUGH else ""
        return f"GPUPool {pool.name}: {pool.complaint}{waits}"
    until = (
        "it starts when another VM stops or your administrator moves a GPU"
        if mode is Mode.PASSTHROUGH
        else "the pod will wait until your administrator moves a GPU"
    )
    return f"poolmgr may not convert one on its own (GPUPool {pool.name}: rebalance.mode {pool.rebalance}): {until}"


def _taken(views: Iterable[ModelView]) -> int:
    """GPUs that VMs have or are about to get."""
    return sum(view.in_passthrough - view.free + view.outlook[Mode.PASSTHROUGH].arriving for view in views)


def _held(wanted: Iterable[Wanted], mode: Mode) -> str:
    """Why no node comes to have so many, where that is not for those who use them."""
    reasons = {reason for one in wanted for view in one.views for reason in view.outlook[mode].held}
    words = listing(sorted({HELD_WORDS.get(reason, HELD_OTHERWISE) for reason in reasons}))
    if mode is Mode.SHARED:
        return (
            f"those of VMs stay where they are for now: {words}. The pod will wait until that is over "
            f"({READ_ON} more)"
        )
    if not words:
        return "no node where it may run has as many that could be converted: it starts when VMs stop"
    return (
        f"shared GPUs of its kind stay where they are for now: {words}; it starts when VMs stop, or once that is over "
        f"({READ_ON} more)"
    )


def _nodes(one: Wanted, mode: Mode, nodes: Collection[NodeName] | None) -> Collection[NodeName]:
    if nodes is not None:
        return nodes
    outlooks = [view.outlook[mode] for view in one.views]
    return {node for outlook in outlooks for node in (*outlook.given, *outlook.movable)}


def _on(node: NodeName, one: Wanted, mode: Mode) -> int:
    """GPUs of the kind that the node has ready in `mode`, gets, or could get once nobody uses them."""
    outlooks = [view.outlook[mode] for view in one.views]
    return sum(outlook.given.get(node, 0) + outlook.movable.get(node, 0) for outlook in outlooks)


def limits_of(views: Iterable[ModelView]) -> str:
    """The limits on what VMs may have of these, by pool."""
    limited = {pool for view in views for pool in view.pools if pool.passthrough.max is not None}
    return listing(sorted(f"GPUPool {pool.name}: passthrough.max {pool.passthrough.max}" for pool in limited))
