"""Which GPUs in use will be empty by when, if no new pod came to them?

How long a pod runs is not known, but how long it has run says much: durations have a heavy tail, so a young pod
will probably end soon and an old one will not. From the ages follows, for every horizon of the forecast, how
many GPUs would be free by then if all were closed now.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poolmgr.domain.fleet import EvictionRule, Gpu
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.stages.state import Proposal

Floats = npt.NDArray[np.float64]

TAIL = 0.69
SCALE_SECONDS = 300.0
"""P(a pod runs longer than x seconds) is taken as (1 + x / SCALE) ** -TAIL: openb's one-GPU pods, from a minute
to days. Most heavy tails are close to it for one choice of TAIL."""
PLENTY = 1.25
"""More than this many times what a later horizon wants is plenty."""


def ends_within(age_seconds: Floats, seconds: float) -> Floats:
    """Probability that pods of these ages end within `seconds`: the older, the less likely."""
    chance: Floats = 1.0 - ((age_seconds + SCALE_SECONDS) / (age_seconds + seconds + SCALE_SECONDS)) ** TAIL
    return chance


@dataclass(slots=True)
class DrainForecast:
    """GPUs in use, and how likely each is to be empty at each horizon if closed now."""

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

    def yields_of_all(self) -> Floats:
        """The same if every GPU were closed."""
        return self.yields(np.ones(len(self.units), dtype=bool))


def drain_forecast(
    proposal: Proposal, key: GroupKey, horizons: tuple[float, ...], *, evicting: bool = True
) -> DrainForecast:
    """The group's shared GPUs that pods keep where they are, at `horizons` (seconds from now). While `evicting`, pods
    that a waiting VM may have evicted do not count."""
    state = proposal.state
    group, moved = state.inventory.groups[key], proposal.moved_uuids()
    evictable = evicting and group.pool.eviction is EvictionRule.BEST_EFFORT
    usage, now = state.inventory.usage, state.snapshot.taken_at
    units: list[tuple[Gpu, ...]] = []
    closed: list[bool] = []
    for at in group.nodes.values():
        move = at.node.transition
        if at.draining and move is not None:
            units += [(g,) for g in at.node.gpus if g.pci_address in move.devices]
            closed += [True] * (len(units) - len(closed))
        units += [u for u in at.busy_shared if u[0].uuid not in moved]
        closed += [False] * (len(units) - len(closed))
    rows: list[int] = []
    ages: list[float] = []
    for row, unit in enumerate(units):
        for gpu in unit:
            for pod in usage.pods_on(gpu):
                if evictable and pod.best_effort and pod.evictable:
                    continue
                rows.append(row)
                ages.append(now - (now if pod.started_at is None else pod.started_at))
    age, index = np.maximum(np.array(ages), 0.0), np.array(rows, dtype=np.int64)
    chance = np.ones((len(units), len(horizons)))
    for column, seconds in enumerate(horizons):
        ends = np.log(np.maximum(ends_within(age, seconds), 1e-12))
        chance[:, column] = np.exp(np.bincount(index, weights=ends, minlength=len(units)))
    return DrainForecast(units, np.array(closed, dtype=bool), chance)


def spare_for_pods(proposal: Proposal, key: GroupKey) -> int:
    """Free GPUs that could be given to pods and would still, with the others, fall free in time."""
    group, headroom = proposal.state.inventory.groups[key], proposal.state.headroom[key]
    looks = headroom.lend or headroom.ahead
    if len(looks) < 2:
        return group.free
    horizons = tuple(seconds for seconds, _ in looks)
    supply = group.free + drain_forecast(proposal, key, horizons).yields_of_all()
    still_there = np.array([1.0 - float(ends_within(np.zeros(1), seconds)[0]) for seconds in horizons])
    room = (supply - PLENTY * np.array([gpus for _, gpus in looks])) / still_there
    return max(0, int(room[1:].min()))
