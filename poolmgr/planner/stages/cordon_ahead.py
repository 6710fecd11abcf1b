"""GPUs in use that are closed to new pods so that they are free when VMs will want them: for reservations, for the
forecast of pools that forbid eviction (others lend: `lend_nodes`), and for VMs that come within minutes. Nobody is
disturbed.

As long as plenty of GPUs would fall free by themselves (`drain_forecast`), nothing is closed: a GPU that falls free too
early idles, and one that is in use for a while longer does work. Once they are scarce, enough GPUs are closed to make
up what is missing. Only the nearest horizon admits no waiting.

Which GPU of a node falls free first cannot be known, so all that are likely enough are closed together; the
executor moves those that are empty first and opens the others again.
"""

import numpy as np

from poolmgr.domain.denials import name_of
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.planner.budgets import slots_for_vms
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.inventory.usage import Usage
from poolmgr.planner.sizing.headroom import SOON_SECONDS
from poolmgr.planner.stages.drain_forecast import PLENTY, DrainForecast, Floats, drain_forecast
from poolmgr.planner.stages.state import PlanState, Proposal, StageResult

NODE_PRICE = 0.1
"""What closing a GPU costs beside the room that it leaves unused, in GPUs: its node can make no other move."""
SOON_SHARE = 0.4
"""Of the nodes, how many may be draining for VMs that come so soon. The others can make room for them at once."""
LEAST_WORTH = 0.5
"""Chance to be empty in time for each GPU left unused meanwhile, below which closing does not pay."""


def cordon_ahead(state: PlanState) -> StageResult:
    """Close GPUs where the forecast wants more than is free and plenty will not fall free by itself.

    They may take hours to fall empty, so they leave some of the pool's moves in flight to VMs that wait."""
    proposal = Proposal(state)
    for budget in proposal.budgets.values():
        budget.slots_for_vms = slots_for_vms(budget)
    for key, headroom in state.headroom.items():
        _close_for(proposal, key, headroom.ahead, headroom.drain_share, evicting=True)
        _close_for(proposal, key, ((SOON_SECONDS, headroom.soon),), SOON_SHARE, evicting=False)
    return proposal.result()


def _close_for(
    proposal: Proposal, key: GroupKey, looks: tuple[tuple[float, int], ...], share: float, *, evicting: bool
) -> None:
    """`looks`: (seconds from now, GPUs wanted by then); `share`: of the nodes, how many may be draining for them."""
    group = proposal.state.inventory.groups[key]
    wanted = np.array([gpus for _, gpus in looks], dtype=np.float64)
    if not looks or wanted.max() <= group.free:
        return
    drains = drain_forecast(proposal, key, tuple(seconds for seconds, _ in looks), evicting=evicting)
    missing = wanted - group.free - drains.yields(drains.closed)
    plenty = group.free + drains.yields_of_all() >= PLENTY * wanted
    plenty[0] = False
    missing[plenty] = 0.0
    if missing.max() > 0:
        _close_nodes(proposal, key, drains, missing, share)


def _close_nodes(
    proposal: Proposal, key: GroupKey, drains: DrainForecast, missing: Floats, share: float
) -> None:
    """Close the likeliest GPUs, best node first, until nothing is `missing` or too few nodes stay open."""
    group, headroom = proposal.state.inventory.groups[key], proposal.state.headroom[key]
    usage, budget = proposal.state.inventory.usage, proposal.budgets[key[0]]
    # A node that drains can make no other move: enough nodes stay open for VMs that cannot wait.
    nodes = int(share * len(group.nodes))
    nodes -= sum(1 for at in group.nodes.values() if at.draining)
    by_then = drains.chance[:, int(np.flatnonzero(missing > 0).max())]
    offers: dict[NodeName, list[int]] = {}
    for row, unit in enumerate(drains.units):
        node = unit[0].node
        if drains.closed[row] or proposal.direction(node) or by_then[row] < LEAST_WORTH * NODE_PRICE:
            continue
        if by_then[row] > LEAST_WORTH * (NODE_PRICE + _left_unused(usage, unit)):
            offers.setdefault(node, []).append(row)
    best = sorted(offers, key=lambda name: (float(np.prod(1.0 - by_then[offers[name]])), name))
    for node in best[: max(0, nodes)]:
        if missing.max() <= 0:
            return
        for row in offers[node]:
            unit = drains.units[row]
            # What keeps a GPU in use from being closed is no reason for anything that waits or idles.
            if budget.denial(Mode.PASSTHROUGH, len(unit)) is not None:
                return
            pods = tuple(dict.fromkeys(pod.uid for gpu in unit for pod in usage.pods_on(gpu)))
            message = (
                f"{name_of(unit[0])} is closed to new pods and moves when its {len(pods)} pod(s) have ended"
            )
            proposal.move(
                key,
                Unit(unit, wait_for=pods),
                Mode.PASSTHROUGH,
                headroom.reason,
                f"{message}: {headroom.message}",
            )
            missing = missing - drains.chance[row] * len(unit)


def _left_unused(usage: Usage, gpus: tuple[Gpu, ...]) -> float:
    """GPUs' worth of room that closing them leaves unused: free now, and about half of what the pods give back
    one by one before the last of them ends."""
    unused = 0.0
    for gpu in gpus:
        memory, cores, pods = usage.load_on(gpu)
        used = max(memory / max(gpu.memory_mib, 1), cores / 100)
        unused += 1.0 - used + (used / 2 * (1 - 1 / pods) if pods else 0.0)
    return unused
