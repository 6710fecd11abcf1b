"""How far may VM demand rise in the next minutes? Quantiles of what it did at the same time on earlier days.

The ledger of one shelf is the highest demand of every five minutes. What is predicted is not a level but a
rise above the demand of this moment: a level drifts from term to term and jumps on holidays, while rises at
the same hour of the same kind of day repeat. Where there is no history, the rises of the last hour stand in.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

BIN_SECONDS = 300.0
BINS_A_DAY = 288
BINS_A_WEEK = 7 * BINS_A_DAY
KEPT_WEEKS = 4
"""Four weeks: one term's habits, forgotten within a month when they change."""
NEIGHBOURS = 2
"""Bins on each side of the same time of day that count as the same time."""
RECENT_BINS = 12

Levels = npt.NDArray[np.float64]


def rises(levels: Levels, horizon_bins: int) -> Levels:
    """For each bin, how far demand rises above it within the following `horizon_bins`, at least 0."""
    if len(levels) <= horizon_bins:
        return np.zeros(0)
    windows = np.lib.stride_tricks.sliding_window_view(levels[1:], horizon_bins)
    highest: Levels = windows.max(axis=1)
    return np.maximum(highest - levels[: len(highest)], 0.0)


def same_times(now_bin: int, first_bin: int, bins: int) -> npt.NDArray[np.int64]:
    """Indexes of bins before now that are at the same time of the week, and of the last days of this kind.

    Bins count from a Monday (`bin_of`). Working days are one kind of day, the weekend the other.
    """
    picked: list[int] = []
    for week in range(1, KEPT_WEEKS + 1):
        picked.append(now_bin - week * BINS_A_WEEK)
    today = (now_bin // BINS_A_DAY) % 7
    for day in range(1, 7):
        then = (today - day) % 7
        if (today < 5) == (then < 5) and len(picked) < KEPT_WEEKS + 3:
            picked.append(now_bin - day * BINS_A_DAY)
    around = np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    index = (np.array(picked)[:, None] + around[None, :]).ravel() - first_bin
    return index[(index >= 0) & (index < bins)]


EPOCH_MONDAY = 4 * 86_400.0
"""1970-01-05T00:00Z was a Monday."""


def bin_of(at: float) -> int:
    """Number of the five minutes that `at` (Unix seconds) lies in, counted from a Monday."""
    return int((at - EPOCH_MONDAY) // BIN_SECONDS)


def rise_quantile(ledger: dict[str, Any], now_bin: int, horizon_bins: int, quantile: float) -> float:
    """The rise that is exceeded with probability 1 - `quantile` within `horizon_bins` from now.

    `ledger` is {"first": number of its first bin, "levels": [...]}, as `record` keeps it.
    """
    levels = np.asarray(ledger["levels"], dtype=np.float64)
    jumps = rises(levels, horizon_bins)
    index = same_times(now_bin, int(ledger["first"]), len(jumps))
    samples = jumps[index] if len(index) else jumps[-RECENT_BINS:]
    if len(samples) == 0:
        return 0.0
    return float(np.quantile(samples, quantile))


def record(ledger: dict[str, Any] | None, now_bin: int, level: int) -> dict[str, Any]:
    """The ledger with `level` seen in `now_bin`. Bins in which nobody looked repeat the last level."""
    if ledger is None:
        return {"first": now_bin, "levels": [level]}
    first, levels = int(ledger["first"]), ledger["levels"]
    last = first + len(levels) - 1
    if now_bin <= last:
        if level <= levels[-1] or now_bin < last:
            return ledger
        return {"first": first, "levels": [*levels[:-1], level]}
    gap = min(now_bin - last - 1, BINS_A_WEEK)
    grown = [*levels, *([levels[-1]] * gap), level]
    surplus = max(0, len(grown) - KEPT_WEEKS * BINS_A_WEEK - BINS_A_DAY)
    return {"first": now_bin - len(grown) + 1 + surplus, "levels": grown[surplus:]}
