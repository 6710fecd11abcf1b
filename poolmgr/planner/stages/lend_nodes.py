"""Nodes on which only best-effort containers are newly placed, because VMs are expected.

Which container will run for days cannot be known when it starts, and one that may not be evicted keeps its GPU
through the morning's rise. Closing GPUs to everybody hours ahead would leave them idle; so they are lent to those
who may be asked to leave. What runs on a node already stays; nothing moves and nobody is evicted for lending.

Whole nodes are lent, as a label on the node and the affinity that our webhook gives to containers that are not
best effort cost one write for a node and none for the containers that wait. For every horizon of the forecast the
GPUs that are free by then are counted: those free now, and on lent nodes the ones whose other containers will
probably have ended. As long as all nodes together would give plenty, none is lent for that horizon.

A lent node that no best-effort container wants idles: at night their queue runs dry long before the morning. So for
what is further away than most containers run, nodes are lent only while best-effort containers wait.
"""

import numpy as np

from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.identifiers import GpuUuid, NodeName
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import moves_by_itself
from poolmgr.planner.inventory.inventory import GpuGroup
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.inventory.shared_fit import cards_of
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.cordon_ahead import PLENTY, Floats, outlook_of
from poolmgr.planner.stages.state import PlanState

STILL_WANTED = 1.1
"""A lent node stays so until there is this many times what is wanted, and ..."""
STILL_SCARCE = 1.5
"""... its horizon counts until plenty is exceeded so many times: nodes are not lent and taken back at every look."""
FAR_SECONDS = 4 * 3_600.0
"""Of containers that begin so long before they are in the way, 93 of 100 have ended (`drain.ends_within`)."""
WAITING_TO_BEGIN = 0.05
WAITING_TO_STAY = 0.01
"""Best-effort work that has to wait, as a share of the shelf's GPUs, for nodes to be lent for longer than that."""


def lent_nodes(draft: PlanState, spares: dict[GroupKey, Headroom]) -> frozenset[NodeName]:
    """The nodes to be lent from now on: only such whose GPUs are all of pools that are automatic and allow
    eviction."""
    willing = {
        pool.name
        for pool in draft.snapshot.pools
        if moves_by_itself(pool) and pool.eviction is EvictionRule.BEST_EFFORT
    }
    expecting = [
        (key, shelf)
        for key, shelf in draft.stock.shelves.items()
        if shelf.pool.name in willing and max((gpus for _, gpus in spares[key].lend), default=0) > shelf.free
    ]
    if not expecting:
        return frozenset()
    waiting = [p for p in draft.snapshot.pods if p.node is None and p.best_effort and not p.terminating]
    lent: set[NodeName] = set()
    for key, shelf in expecting:
        names = [n for n, at in shelf.nodes.items() if all(g.pool in willing for g in at.node.gpus)]
        work = sum(cards_of(p, shelf.memory_mib) for p in waiting if p.accepts(shelf.model, GpuUuid("")))
        lent.update(_of_shelf(draft, shelf, names, spares[key], work))
    return frozenset(lent)


def _of_shelf(
    draft: PlanState, shelf: GpuGroup, names: list[NodeName], spare: Headroom, waiting: float
) -> list[NodeName]:
    """`waiting`: best-effort work that waits and could run here, in GPUs of the shelf."""
    horizons, wanted = np.array(spare.lend, dtype=np.float64).T
    gives = _given_by(draft, shelf, names, tuple(horizons))
    total = shelf.free + gives.sum(axis=0)
    far = horizons > FAR_SECONDS
    # At the nearest horizon nothing more will fall free: there, plenty is no argument.
    first = np.arange(len(wanted)) == 0
    begins = ~far | (waiting >= WAITING_TO_BEGIN * shelf.gpus)
    to_begin = np.where(begins & (first | (total < PLENTY * wanted)), wanted, 0.0)
    stays = ~far | (waiting >= WAITING_TO_STAY * shelf.gpus)
    to_stay = STILL_WANTED * np.where(stays & (total < STILL_SCARCE * PLENTY * wanted), wanted, 0.0)
    is_lent = [shelf.nodes[name].node.best_effort_only for name in names]
    order = sorted(range(len(names)), key=lambda n: (not is_lent[n], -float(gives[n].sum()), names[n]))
    have = np.full(len(wanted), float(shelf.free))
    chosen: list[NodeName] = []
    for n in order:
        enough = have >= (to_stay if is_lent[n] else to_begin)
        if not enough.all() and gives[n].any():
            chosen.append(names[n])
            have = have + gives[n]
    if draft.explain:
        for name in chosen:
            message = (
                f"{name} takes new best-effort containers only: {spare.message}, and too few GPUs of {shelf.model} "
                f"would be free by then"
            )
            draft.refusals.append(
                Refusal(Subject(SubjectKind.NODE, "", name), Reason.LENT_TO_BEST_EFFORT, message)
            )
    return chosen


def _given_by(
    draft: PlanState, shelf: GpuGroup, names: list[NodeName], horizons: tuple[float, ...]
) -> Floats:
    """[node, horizon]: shared GPUs that a VM could have by then if only best-effort pods came meanwhile."""
    outlook = outlook_of(draft, shelf, horizons)
    row = {name: n for n, name in enumerate(names)}
    gives: Floats = np.zeros((len(names), len(horizons)))
    for unit, closed, chance in zip(outlook.units, outlook.closed, outlook.chance, strict=True):
        if not closed and unit[0].node in row:
            gives[row[unit[0].node]] += len(unit) * chance
    for name in names:
        gives[row[name]] += sum(unit.size for unit in shelf.nodes[name].to_passthrough)
    return gives
