"""How long until a waiting workload starts: a range, from how long others in its situation have waited. Pure.

Nobody knows when a GPU falls free, and a move takes as long as the node's driver and HAMi's plugin take. What can be known
is how it went: for each *case* (what kind of GPU, whether one is free, on its way or none of both, and the place in line)
the latest waits are kept, and the estimate is their quantiles. Who has waited for a while is compared with those who
waited longer than that. Waits that have not ended, or ended because somebody gave up, count as "longer than that"
(Kaplan and Meier's estimator).

A range is one that nine of ten waits ended within, and the ends are taken so far out that this holds for the next wait and
not only for those seen. Those who began to wait at the same time wait for the same things, so they count as one in this.
Where too few were seen an assumption that is said to be one fills in, and where there is none,
nothing is promised.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, floor
from typing import NamedTuple

WITHIN = 0.9
"""Of ten waits nine are to end within the range."""
WINDOW = 400
"""Waits that are kept of each case: enough for the ends of a range, few enough to follow a cluster that changes."""
TOGETHER_SECONDS = 900.0
"""Who begins to wait in the same quarter of an hour waits for the same things."""
ENOUGH = 19
"""From so many independent ones on, nine of ten next ones fall between the smallest and the largest (order statistics: 2 / (n + 1) fall
outside of all n)."""


class Situation(StrEnum):
    FREE = "Free"
    """GPUs are free for it."""
    MOVING = "Moving"
    """GPUs are on their way to its side for it."""
    QUEUED = "Queued"
    """It waits until something falls free."""
    NEW = "New"
    """It has just come, and nothing was free: what is told where only that is known."""


ASSUMED: dict[Situation, tuple[float, float, float]] = {
    # kube-scheduler binds within a second of seeing a device, and looks again after at most some tens of seconds.
    Situation.FREE: (1.0, 10.0, 60.0),
    # What docs/benchmarks.md measures of moves (their quiet time of 15 s included) and the scheduler's look after them; at once
    # where another GPU falls free meanwhile.
    Situation.MOVING: (0.0, 60.0, 240.0),
}
"""Seconds that 5, 50 and 95 of a hundred waits end within, before a cluster has measured its own. What waits in line
depends on what others do: nothing is assumed."""


class Case(NamedTuple):
    """What makes waits alike."""

    resource: str
    """The GPU's resource name; of containers `CONTAINERS`."""
    situation: Situation
    several: bool
    """It needs more than one GPU on one node, or (a container) a whole one."""
    place: int
    """In line: 1, 2, 4, 8, … for the first, the second, the next two, the next four, …; 0 where it stands in none."""


CONTAINERS = "containers"


def place_of(position: int) -> int:
    """The class of the `position`-th in line, counted from 1."""
    return 1 << (position - 1).bit_length()


class Wait(NamedTuple):
    """One wait."""

    seconds: float
    ended: bool
    """It ended with a start; else it is only known to be longer."""
    begun_at: float
    """Unix seconds."""

    @property
    def together(self) -> int:
        return int(self.begun_at // TOGETHER_SECONDS)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds from now until it starts; None where nothing can be said."""

    situation: Situation
    low: float | None
    median: float | None
    high: float | None
    measured: int
    """Waits of its case that ended with a start and were longer than it has waited."""
    assumed: bool
    """Too few were measured: an assumption fills in."""
    position: int = 0
    """In line, from 1; 0 where it stands in none."""

    @property
    def known(self) -> bool:
        return self.median is not None

    @property
    def sentence(self) -> str:
        """What users read, as a clause."""
        if self.low is None or self.median is None or self.high is None:
            return self._unknown
        basis = (
            "an assumption, until enough waits have been measured here"
            if self.assumed
            else f"measured on {self.measured} like it"
        )
        first = f"{_end(self.low)} to " if self.low else ""
        return f"it should start in about {spell(self.median)}, and in nine cases of ten within {first}{_end(self.high)} ({basis})"

    @property
    def _unknown(self) -> str:
        if self.situation in ASSUMED:
            return "it has waited longer than others did, so no estimate is possible"
        few = f"only {self.measured} such waits have been" if self.measured else "no such wait has been"
        place = f"it is number {self.position} in line, and its start " if self.position else "its start "
        return f"no estimate yet: {place}depends on when others end, and {few} measured here"


def spell(seconds: float) -> str:
    """`5 s`, `a minute`, `12 minutes`, `3 hours`, `2 days`: as exact as an estimate can be. `a minute` is half a minute
    around one."""
    if 45.0 <= seconds < 75.0:
        return "a minute"
    if seconds < 120.0:
        return f"{5 * round(seconds / 5)} s"
    for unit, size, limit in (("minutes", 60.0, 120.0), ("hours", 3_600.0, 48.0)):
        if seconds < size * limit:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86_400.0)} days"


def _end(seconds: float) -> str:
    """The end of a range, which is a round number already."""
    for unit, size, limit in (("s", 1.0, 120.0), ("min", 60.0, 120.0), ("h", 3_600.0, 48.0)):
        if seconds < size * limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400.0:.0f} days"


def _outwards(low: float, high: float) -> tuple[float, float]:
    """The ends of a range as they are told: the next round numbers outside of it, and two of them."""
    first, last = _step(low) * floor(low / _step(low) + 1e-9), _step(high) * ceil(high / _step(high) - 1e-9)
    return first, last if last > first else last + _step(last)


def _step(seconds: float) -> float:
    if seconds < 120.0:
        return 5.0
    return 60.0 if seconds < 7_200.0 else 3_600.0 if seconds < 172_800.0 else 86_400.0


class Curve:
    """The waits of one case, to be asked about any number of workloads."""

    def __init__(self, situation: Situation, waits: Iterable[Wait]) -> None:
        seen = list(waits)
        self._situation = situation
        self._measured = sorted(wait.seconds for wait in seen if wait.ended)
        missing = ENOUGH - len({wait.together for wait in seen if wait.ended})
        assumption = ASSUMED.get(situation)
        self._assumed = missing > 0 and assumption is not None
        if missing > 0 and assumption is not None:
            spread = enumerate(_spread(assumption, missing), start=1)
            seen += [Wait(seconds, True, -rank * TOGETHER_SECONDS) for rank, seconds in spread]
        seen.sort(key=lambda wait: (wait.seconds, not wait.ended))
        self._seconds = [wait.seconds for wait in seen]
        self._independent: list[int] = []
        """Of those from each on to the longest, how many did not begin together."""
        together: set[int] = set()
        for wait in reversed(seen):
            together.add(wait.together)
            self._independent.append(len(together))
        self._independent.reverse()
        self._ends = [wait.seconds for wait in seen if wait.ended]
        self._left: list[float] = []
        """The share that was left after each of `_ends`."""
        left = 1.0
        for rank, wait in enumerate(seen):
            if wait.ended:
                left *= 1.0 - 1.0 / (len(seen) - rank)
                self._left.append(left)

    def estimate(self, waited: float, position: int = 0) -> Estimate:
        """For one that has been in the case for `waited` seconds."""
        shorter = bisect_left(self._seconds, waited)
        longer = self._independent[shorter] if shorter < len(self._seconds) else 0
        measured = len(self._measured) - bisect_left(self._measured, waited)
        unknown = Estimate(self._situation, None, None, None, measured, False, position)
        if longer < ENOUGH:
            return unknown
        # The next one is longer than the k-th shortest of n with probability 1 - k / (n + 1). It is shorter than the shortest
        # with 1 / (n + 1), and the other end may have what is left: who starts sooner than told complains less.
        last = ceil(WITHIN * (longer + 1) + 1.0 - 1e-9)
        low, median, high = (self._at(waited, share) for share in (0.0, 0.5, min(1.0, last / longer)))
        if median is None or high is None or low is None:
            return unknown
        low, high = _outwards(low - waited, high - waited)
        return Estimate(self._situation, low, median - waited, high, measured, self._assumed, position)

    def _at(self, waited: float, share: float) -> float | None:
        """By when this share of those that waited longer has started; None where it is not known."""
        first = bisect_left(self._ends, waited)
        before = self._left[first - 1] if first else 1.0
        wanted = before * (1.0 - share) + 1e-9
        index = bisect_left(self._left, -wanted, lo=first, key=lambda left: -left)
        return self._ends[index] if index < len(self._ends) else None


def _spread(assumption: tuple[float, float, float], number: int) -> Sequence[float]:
    """So many waits with these quantiles, evenly spread between them."""
    low, median, high = assumption
    found = []
    for rank in range(1, number + 1):
        share = rank / (number + 1)
        if share <= 0.5:
            found.append(low + (median - low) * max(0.0, share - 0.05) / 0.45)
        else:
            found.append(median + (high - median) * min(1.0, (share - 0.5) / 0.45))
    return found
