"""How far may VM demand rise in the next minutes? Quantiles of what it did at the same time on earlier days.

The history of one group is the highest demand of every five minutes. What is predicted is not a level but a
rise above the demand of this moment: a level drifts from term to term and jumps on holidays, while rises at
the same hour of the same kind of day repeat. Where there is no history, the rises of the last hour stand in.
"""

from collections.abc import Sequence
from typing import Any

BIN_SECONDS = 300.0
BINS_A_DAY = 288
BINS_A_WEEK = 7 * BINS_A_DAY
HISTORY_WEEKS = 4
"""Four weeks: one term's habits, forgotten within a month when they change."""
NEIGHBOURS = 2
"""Bins on each side of the same time of day that count as the same time."""
RECENT_BINS = 12


def rise(levels: Sequence[float], at: int, horizon_bins: int) -> float:
    """How far demand rises above the level of bin `at` within the following `horizon_bins`, at least 0."""
    return max(0.0, float(max(levels[at + 1 : at + 1 + horizon_bins]) - levels[at]))


def days_alike(weekday: int) -> tuple[int, ...]:
    """How many bins ago the days lie that speak for a day of the week (0 is Monday): the same one of the last weeks,
    and the last days of its kind. Working days are one kind of day, the weekend the other."""
    weeks = tuple(week * BINS_A_WEEK for week in range(1, HISTORY_WEEKS + 1))
    kind = [day for day in range(1, 7) if (weekday < 5) == ((weekday - day) % 7 < 5)]
    return (*weeks, *(day * BINS_A_DAY for day in kind[:3]))


def same_times(now_bin: int, first_bin: int, bins: int) -> list[int]:
    """Indexes of bins before now that are at the same time of days alike. Bins count from a Monday (`bin_of`)."""
    near = range(-NEIGHBOURS - first_bin, NEIGHBOURS - first_bin + 1)
    days = (now_bin - ago for ago in days_alike((now_bin // BINS_A_DAY) % 7))
    return [day + shift for day in days for shift in near if 0 <= day + shift < bins]


EPOCH_MONDAY = 4 * 86_400.0
"""1970-01-05T00:00Z was a Monday."""


def bin_of(at: float) -> int:
    """Number of the five minutes that `at` (Unix seconds) lies in, counted from a Monday."""
    return int((at - EPOCH_MONDAY) // BIN_SECONDS)


def rise_quantile(history: dict[str, Any], now_bin: int, horizon_bins: int, quantile: float) -> float:
    """The rise that is exceeded with probability 1 - `quantile` within `horizon_bins` from now.

    `history` is {"first": number of its first bin, "levels": [...]}, as `record` keeps it.
    """
    levels: list[float] = history["levels"]
    known = len(levels) - horizon_bins
    """Bins after which the whole horizon has been seen."""
    index = same_times(now_bin, int(history["first"]), max(known, 0))
    if not index:
        return recent_rise_quantile(history, horizon_bins, quantile)
    return _quantile(sorted(rise(levels, at, horizon_bins) for at in index), quantile)


def recent_rise_quantile(history: dict[str, Any], horizon_bins: int, quantile: float) -> float:
    """The same from the rises of the last hour alone; 0 where nothing is known."""
    levels: list[float] = history["levels"]
    known = len(levels) - horizon_bins
    samples = sorted(rise(levels, at, horizon_bins) for at in range(max(0, known - RECENT_BINS), known))
    return _quantile(samples, quantile) if samples else 0.0


def _quantile(ordered: list[float], quantile: float) -> float:
    """Linear between the two nearest; `ordered` is not empty."""
    place = quantile * (len(ordered) - 1)
    low = min(int(place), len(ordered) - 1)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def record(history: dict[str, Any] | None, now_bin: int, level: int) -> dict[str, Any]:
    """The history with `level` seen in `now_bin`. Bins in which nobody looked repeat the last level."""
    if history is None:
        return {"first": now_bin, "levels": [level]}
    first, levels = int(history["first"]), history["levels"]
    last = first + len(levels) - 1
    if now_bin <= last:
        if level <= levels[-1] or now_bin < last:
            return history
        return {"first": first, "levels": [*levels[:-1], level]}
    gap = min(now_bin - last - 1, BINS_A_WEEK)
    grown = [*levels, *([levels[-1]] * gap), level]
    surplus = max(0, len(grown) - HISTORY_WEEKS * BINS_A_WEEK - BINS_A_DAY)
    return {"first": now_bin - len(grown) + 1 + surplus, "levels": grown[surplus:]}
