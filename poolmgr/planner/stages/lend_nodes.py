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
from poolmgr.domain.occupancy import unbound_pods
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import moves_by_itself
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.stages.drain_forecast import PLENTY, Floats, drain_forecast
from poolmgr.planner.stages.state import PlanState, Proposal, StageResult

STILL_WANTED = 1.1
"""A lent node stays so until there is this many times what is wanted, and ..."""
STILL_SCARCE = 1.5
"""... its horizon counts until plenty is exceeded so many times: nodes are not lent and taken back at every look."""
FAR_SECONDS = 4 * 3_600.0
"""Of containers that begin so long before they are in the way, 93 of 100 have ended (`drain_forecast.ends_within`)."""
WAITING_TO_BEGIN = 0.05
WAITING_TO_STAY = 0.01
"""Best-effort work that has to wait, as a share of the group's GPUs, for nodes to be lent for longer than that."""


def lend_nodes(state: PlanState) -> StageResult:
    """Which nodes are lent from now on: only such whose GPUs are all of pools that are automatic and allow
    eviction."""
    willing = {
        pool.name
        for pool in state.snapshot.pools
        if moves_by_itself(pool) and pool.eviction is EvictionRule.BEST_EFFORT
    }
    proposal = Proposal(state)
    expecting = [
        (key, group)
        for key, group in state.inventory.groups.items()
        if group.pool.name in willing
        and max((gpus for _, gpus in state.headroom[key].lend), default=0) > group.free
    ]
    if not expecting:
        return proposal.result()
    waiting = [
        p for p in unbound_pods(state.snapshot.pods) if p.best_effort and not p.terminating and p.servable
    ]
    for key, group in expecting:
        names = [n for n, at in group.nodes.items() if all(g.pool in willing for g in at.node.gpus)]
        work = sum(p.worth(group.memory_mib) for p in waiting if p.accepts(group.model, GpuUuid("")))
        proposal.lent.update(_of_group(proposal, key, names, work))
    return proposal.result()


def _of_group(proposal: Proposal, key: GroupKey, names: list[NodeName], waiting: float) -> list[NodeName]:
    """`waiting`: best-effort work that waits and could run here, in GPUs of the group."""
    group, headroom = proposal.state.inventory.groups[key], proposal.state.headroom[key]
    horizons, wanted = np.array(headroom.lend, dtype=np.float64).T
    gives = _given_by(proposal, key, names, tuple(horizons))
    total = group.free + gives.sum(axis=0)
    far = horizons > FAR_SECONDS
    # At the nearest horizon nothing more will fall free: there, plenty is no argument.
    first = np.arange(len(wanted)) == 0
    begins = ~far | (waiting >= WAITING_TO_BEGIN * group.gpus)
    to_begin = np.where(begins & (first | (total < PLENTY * wanted)), wanted, 0.0)
    stays = ~far | (waiting >= WAITING_TO_STAY * group.gpus)
    to_stay = STILL_WANTED * np.where(stays & (total < STILL_SCARCE * PLENTY * wanted), wanted, 0.0)
    is_lent = [group.nodes[name].node.best_effort_only for name in names]
    order = sorted(range(len(names)), key=lambda n: (not is_lent[n], -float(gives[n].sum()), names[n]))
    have = np.full(len(wanted), float(group.free))
    chosen: list[NodeName] = []
    for n in order:
        enough = have >= (to_stay if is_lent[n] else to_begin)
        if not enough.all() and gives[n].any():
            chosen.append(names[n])
            have = have + gives[n]
    if proposal.state.explain:
        for name in chosen:
            message = (
                f"node {name} takes only best-effort pods for now: {headroom.message}, and too few GPUs of {group.model} "
                f"would be free by then"
            )
            proposal.refusals.append(
                Refusal(Subject(SubjectKind.NODE, "", name), Reason.LENT_TO_BEST_EFFORT, message)
            )
    return chosen


def _given_by(
    proposal: Proposal, key: GroupKey, names: list[NodeName], horizons: tuple[float, ...]
) -> Floats:
    """[node, horizon]: shared GPUs that a VM could have by then if only best-effort pods came meanwhile."""
    group, drains = proposal.state.inventory.groups[key], drain_forecast(proposal, key, horizons)
    row = {name: n for n, name in enumerate(names)}
    gives: Floats = np.zeros((len(names), len(horizons)))
    for unit, closed, chance in zip(drains.units, drains.closed, drains.chance, strict=True):
        if not closed and unit[0].node in row:
            gives[row[unit[0].node]] += len(unit) * chance
    for name in names:
        gives[row[name]] += sum(unit.size for unit in group.nodes[name].to_passthrough)
    return gives
