"""GPUs in use that are closed to new pods so that they are free when VMs will want them: for reservations, for the
forecast of pools that forbid eviction (others lend: `lending`), and for VMs that come within minutes. Nobody is
disturbed.

How long a pod runs is not known, but how long it has run says much: durations have a heavy tail, so a young pod
will probably end soon and an old one will not. From the ages follows, for every horizon of the forecast, how
many GPUs would be free by then if all were closed now. As long as that is plenty, nothing is closed: a GPU that
falls free too early idles, and one that is in use for a while longer does work. Once it is scarce, enough GPUs
are closed to make up what is missing. Only the nearest horizon admits no waiting.

Which GPU of a node falls free first cannot be known, so all that are likely enough are closed together; the
executor moves those that are empty first and opens the others again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poolmgr.domain.fleet import EvictionRule, Gpu
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.planner.inventory.eligibility import name_of
from poolmgr.planner.inventory.inventory import GpuGroup
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.state import PlanState

Floats = npt.NDArray[np.float64]

TAIL = 0.69
SCALE_SECONDS = 300.0
"""P(a pod runs longer than x seconds) is taken as (1 + x / SCALE) ** -TAIL: openb's one-GPU pods, from a minute
to days. Most heavy tails are close to it for one choice of TAIL."""
PLENTY = 1.25
"""More than this many times what a later horizon wants is plenty."""
NODE_PRICE = 0.1
"""What closing a GPU costs beside the room that it leaves unused, in GPUs: its node can make no other move."""
SOON_SECONDS = 600.0
SOON_SHARE = 0.4
"""Of the nodes, how many may be draining for VMs that come so soon. The others can make room for them at once."""
LEAST_WORTH = 0.5
"""Chance to be empty in time for each GPU left unused meanwhile, below which closing does not pay."""


def ends_within(age_seconds: Floats, seconds: float) -> Floats:
    """Probability that pods of these ages end within `seconds`: the older, the less likely."""
    chance: Floats = 1.0 - ((age_seconds + SCALE_SECONDS) / (age_seconds + seconds + SCALE_SECONDS)) ** TAIL
    return chance


@dataclass(slots=True)
class Outlook:
    """GPUs in use, and how likely each is to be empty at each horizon of `spare.ahead` if closed now."""

    units: list[tuple[Gpu, ...]]
    closed: npt.NDArray[np.bool_]
    """Those that are closed already."""
    chance: Floats
    """[unit, horizon]."""

    def yields(self, which: npt.NDArray[np.bool_]) -> Floats:
        """GPUs expected to be empty by each horizon."""
        sizes = np.array([len(unit) for unit in self.units], dtype=np.float64)
        expected: Floats = (self.chance * sizes[:, None])[which].sum(axis=0)
        return expected


def outlook_of(
    draft: PlanState, shelf: GpuGroup, horizons: tuple[float, ...], *, evicting: bool = True
) -> Outlook:
    """The shelf's shared GPUs that pods keep where they are. While `evicting`, pods that a waiting VM may have evicted
    do not count."""
    evictable = evicting and shelf.pool.eviction is EvictionRule.BEST_EFFORT
    usage, now = draft.stock.usage, draft.snapshot.taken_at
    units: list[tuple[Gpu, ...]] = []
    closed: list[bool] = []
    for stock in shelf.nodes.values():
        move = stock.node.transition
        if stock.draining and move is not None:
            units += [(g,) for g in stock.node.gpus if g.pci_address in move.devices]
            closed += [True] * (len(units) - len(closed))
        units += [u for u in stock.busy_shared if u[0].uuid not in draft.moved_uuids]
        closed += [False] * (len(units) - len(closed))
    rows: list[int] = []
    ages: list[float] = []
    for row, unit in enumerate(units):
        for gpu in unit:
            for pod in usage.pods_by_gpu.get(gpu.uuid, ()):
                if evictable and pod.best_effort and pod.evictable:
                    continue
                rows.append(row)
                ages.append(now - (now if pod.started_at is None else pod.started_at))
    age, at = np.maximum(np.array(ages), 0.0), np.array(rows, dtype=np.int64)
    chance = np.ones((len(units), len(horizons)))
    for column, seconds in enumerate(horizons):
        ends = np.log(np.maximum(ends_within(age, seconds), 1e-12))
        chance[:, column] = np.exp(np.bincount(at, weights=ends, minlength=len(units)))
    return Outlook(units, np.array(closed, dtype=bool), chance)


def drain_ahead(draft: PlanState, spares: dict[GroupKey, Headroom]) -> None:
    """Close GPUs where the forecast wants more than is free and plenty will not fall free by itself."""
    for key, spare in spares.items():
        _close_for(draft, key, spare, spare.ahead, spare.drain_share, evicting=True)
        _close_for(draft, key, spare, ((SOON_SECONDS, spare.soon),), SOON_SHARE, evicting=False)


def _close_for(
    draft: PlanState,
    key: GroupKey,
    spare: Headroom,
    looks: tuple[tuple[float, int], ...],
    share: float,
    *,
    evicting: bool,
) -> None:
    """`looks`: (seconds from now, GPUs wanted by then); `share`: of the nodes, how many may be draining for them."""
    shelf = draft.stock.shelves[key]
    wanted = np.array([gpus for _, gpus in looks], dtype=np.float64)
    if not looks or wanted.max() <= shelf.free:
        return
    outlook = outlook_of(draft, shelf, tuple(seconds for seconds, _ in looks), evicting=evicting)
    missing = wanted - shelf.free - outlook.yields(outlook.closed)
    plenty = shelf.free + outlook.yields(np.ones(len(outlook.units), dtype=bool)) >= PLENTY * wanted
    plenty[0] = False
    missing[plenty] = 0.0
    if missing.max() > 0:
        _close_nodes(draft, key, spare, outlook, missing, share)


def may_go_back(draft: PlanState, key: GroupKey, spare: Headroom) -> int:
    """Free GPUs that could be given to pods and would still, with the others, fall free in time."""
    shelf = draft.stock.shelves[key]
    looks = spare.lend or spare.ahead
    if len(looks) < 2:
        return shelf.free
    horizons = tuple(seconds for seconds, _ in looks)
    outlook = outlook_of(draft, shelf, horizons)
    supply = shelf.free + outlook.yields(np.ones(len(outlook.units), dtype=bool))
    still_there = np.array([1.0 - float(ends_within(np.zeros(1), seconds)[0]) for seconds in horizons])
    room = (supply - PLENTY * np.array([gpus for _, gpus in looks])) / still_there
    return max(0, int(room[1:].min()))


def _close_nodes(
    draft: PlanState, key: GroupKey, spare: Headroom, outlook: Outlook, missing: Floats, share: float
) -> None:
    """Close the likeliest GPUs, best node first, until nothing is `missing` or too few nodes stay open."""
    shelf, budget = draft.stock.shelves[key], draft.budgets[key[0]]
    # A node that drains can make no other move: enough nodes stay open for VMs that cannot wait.
    nodes = int(share * len(shelf.nodes))
    nodes -= sum(1 for stock in shelf.nodes.values() if stock.draining)
    by_then = outlook.chance[:, int(np.flatnonzero(missing > 0).max())]
    offers: dict[NodeName, list[int]] = {}
    for row, unit in enumerate(outlook.units):
        node = unit[0].node
        if outlook.closed[row] or node in draft.directions or by_then[row] < LEAST_WORTH * NODE_PRICE:
            continue
        if by_then[row] > LEAST_WORTH * (NODE_PRICE + _left_unused(draft, unit)):
            offers.setdefault(node, []).append(row)
    best = sorted(offers, key=lambda name: (float(np.prod(1.0 - by_then[offers[name]])), name))
    for node in best[: max(0, nodes)]:
        if missing.max() <= 0:
            return
        for row in offers[node]:
            unit = outlook.units[row]
            # What keeps a GPU in use from being closed is no reason for anything that waits or idles.
            if budget.denial(Mode.PASSTHROUGH, len(unit)) is not None:
                return
            pods = tuple(dict.fromkeys(p.uid for g in unit for p in draft.stock.usage.pods_on(g)))
            message = (
                f"{name_of(unit[0])} is closed to new pods and moves when its {len(pods)} pod(s) have ended"
            )
            closing = Unit(unit, wait_for=pods)
            draft.move(shelf, closing, Mode.PASSTHROUGH, spare.reason, f"{message}: {spare.message}")
            missing = missing - outlook.chance[row] * len(unit)


def _left_unused(draft: PlanState, gpus: tuple[Gpu, ...]) -> float:
    """GPUs' worth of room that closing them leaves unused: free now, and about half of what the pods give back
    one by one before the last of them ends."""
    unused = 0.0
    for gpu in gpus:
        memory, cores, pods = draft.stock.usage.load_on(gpu)
        used = max(memory / max(gpu.memory_mib, 1), cores / 100)
        unused += 1.0 - used + (used / 2 * (1 - 1 / pods) if pods else 0.0)
    return unused
