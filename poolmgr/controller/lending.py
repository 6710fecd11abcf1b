"""Keeps the label of nodes that are lent to best-effort containers as the newest decision wants it.

GPUs that VMs are expected to want within hours need not idle: containers that may be asked to leave may use them
until then. A planner names the nodes, the label `BEST_EFFORT_ONLY` marks them, our webhook keeps other new
containers away from them. Nothing here moves a GPU or touches a container; it follows the planner at every tick
and takes the label off whatever node the plan does not name, whoever put it there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from poolmgr.controller.interfaces import Leadership, SharingActuator
from poolmgr.domain.errors import PoolError, Stale, Unavailable
from poolmgr.domain.fleet import EvictionRule, Node, Pool, RebalanceMode
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import moves_by_itself

log = structlog.get_logger()

CHANGES_A_TICK = 20
"""Each is a read and a write of a Node, which wakes everybody who watches nodes: a planner that changes its mind
about a whole fleet takes some ticks, and no move waits for longer than this many writes."""


@dataclass(frozen=True, slots=True)
class Change:
    """A node whose label is not as it should be."""

    node: NodeName
    on: bool
    message: str
    """One sentence for a human: what holds from now on, and why."""


def may_lend(node: Node, pools: Mapping[PoolName, Pool]) -> Verdict:
    """Whether everybody who has a say in the node's GPUs allows it to be lent, whatever a planner thinks.

    A GPU of no pool rules it out: nobody has agreed to keep ordinary containers off it.
    """
    found = [pools.get(gpu.pool) if gpu.pool else None for gpu in node.gpus]
    if not found or None in found:
        return Verdict(False, Reason.NOT_IN_POOL, "it has no GPUs, or one of them is in no GPUPool")
    for pool in found:
        assert pool is not None
        if not moves_by_itself(pool):
            off = pool.rebalance is RebalanceMode.OFF
            return Verdict(
                False,
                Reason.POOL_OFF if off else Reason.RECOMMEND_ONLY,
                f"rebalancing of pool {pool.name} is {pool.rebalance.value}",
            )
        if pool.eviction is not EvictionRule.BEST_EFFORT:
            return Verdict(False, Reason.EVICTION_DENIED, f"pool {pool.name} does not allow evictions")
    return Verdict(True, Reason.ADMITTED)


def changes(wanted: frozenset[NodeName], snapshot: ClusterSnapshot) -> tuple[Change, ...]:
    """Every node of the snapshot whose label differs from what `wanted` and the pools' rules make of it."""
    pools = {pool.name: pool for pool in snapshot.pools}
    found: list[Change] = []
    for node in snapshot.nodes:
        named = node.name in wanted
        verdict = may_lend(node, pools) if named else None
        on = bool(verdict)
        if on == node.best_effort_only:
            continue
        if on:
            message = (
                f"only best-effort pods may start on node {node.name}: VMs are expected to need its GPUs soon. Running pods "
                "stay"
            )
        else:
            why = verdict.message if verdict is not None else "the latest plan does not reserve it"
            message = f"pods of any kind may start on node {node.name} again: {why}"
        found.append(Change(node.name, on, message))
    return tuple(found)


class Lending:
    """Writes what differs. Remembers only what has been written and not been seen yet, to tell it once."""

    def __init__(self, sharing: SharingActuator, leadership: Leadership) -> None:
        self._sharing = sharing
        self._leadership = leadership
        self._unseen: frozenset[tuple[NodeName, bool]] = frozenset()
        self._failed: frozenset[NodeName] = frozenset()

    async def follow(self, wanted: frozenset[NodeName], snapshot: ClusterSnapshot) -> tuple[Change, ...]:
        """Bring labels in line with `wanted`, removals first, at most `CHANGES_A_TICK`; return what is new.

        What fails concerns this tick only. When the API server does not answer the rest is left to the next tick
        as well: each would wait for it in vain while moves stand still.
        """
        due = changes(wanted, snapshot)
        unseen = {(change.node, change.on) for change in due} & self._unseen
        failed = {change.node for change in due} & self._failed
        made: list[Change] = []

        def turn(change: Change) -> tuple[bool, bool, NodeName]:
            # Those that failed, and those that the view does not show yet, keep no other from its turn.
            again = change.node in failed or (change.node, change.on) in unseen
            return change.on, again, change.node

        for change in sorted(due, key=turn)[:CHANGES_A_TICK]:
            if self._leadership.epoch is None:
                break
            try:
                await self._sharing.ensure_best_effort_only(change.node, change.on)
            except PoolError as error:
                failed.add(change.node)
                say = log.info if isinstance(error, Stale) else log.warning
                say("label_not_written", node=change.node, reason=error.reason.value, message=error.message)
                if isinstance(error, Unavailable):
                    break
                continue
            failed.discard(change.node)
            if (change.node, change.on) not in unseen:
                unseen.add((change.node, change.on))
                made.append(change)
        self._unseen, self._failed = frozenset(unseen), frozenset(failed)
        return tuple(made)
