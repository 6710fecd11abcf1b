"""May the forecast be believed? Judged by what it would have said of the last days, and what came instead.

For each five minutes of the last days the median of the same time on days alike is what was to be expected of the
next two hours. Its *skill* is one less the error that it made for each GPU of real rise: 1 never errs, 0 is no better
than expecting nothing, below 0 it is worse than that. It is worked out from the ledger alone, so that nothing that
was remembered of it can be wrong.

Measured on 25 weeks of term of a library's desktops (`uncg-desktops`): .45 to .75 in ordinary weeks; what is three
times too high or six hours late falls below .2 in the first morning, a third of what comes stays at .3. Weeks with a
holiday or after a vacation are not believed for days either: what they were like before does not speak for them.

Trust is lost and won back at different levels, or it would change with every busy hour.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from poolmgr.planner.forecast import (
    BINS_A_DAY,
    BINS_A_WEEK,
    NEIGHBOURS,
    days_alike,
)

HORIZON_BINS = 24
"""Two hours: as far as the forecast holds GPUs, and the middle of what it lends nodes for."""
JUDGED_BINS = 3 * BINS_A_DAY
HALF_LIFE_BINS = float(BINS_A_DAY)
"""What was said a day ago counts half."""
PRIOR_SKILL = 0.6
PRIOR_DAYS = 0.5
"""Begins with the skill of an ordinary week, as heavy as half a day's rises: one odd hour says little."""
LOST_BELOW = 0.35
WON_FROM = 0.5


def is_trusted(trusted: bool, ledger: dict[str, Any], now_bin: int) -> bool:
    """Whether the forecast from `ledger` may be acted on now, `trusted` telling whether it was until now. Before a
    whole week is known it may not: the days that would speak for the next ones have not been seen."""
    if now_bin - int(ledger["first"]) < BINS_A_WEEK or not any(ledger["levels"]):
        return False
    return skill_of(ledger, now_bin) >= (LOST_BELOW if trusted else WON_FROM)


def skill_of(ledger: dict[str, Any], now_bin: int) -> float:
    """At most 1. `ledger` is what `forecast.record` keeps, with at least `HORIZON_BINS` + 2 bins."""
    rises = _rises(np.asarray(ledger["levels"], dtype=np.float64))
    first = int(ledger["first"])
    judged = np.arange(max(0, len(rises) - JUDGED_BINS), len(rises))
    said = _expected(rises, judged, first)
    known = ~np.isnan(said)
    weight = 0.5 ** ((judged[-1] - judged[known]) / HALF_LIFE_BINS)
    prior = PRIOR_DAYS * BINS_A_DAY * float(rises.mean())
    came = prior + float((weight * rises[judged[known]]).sum())
    erred = (1.0 - PRIOR_SKILL) * prior + float((weight * np.abs(rises[judged[known]] - said[known])).sum())
    return 1.0 - erred / came if came > 0 else 1.0


def _rises(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each bin whose whole horizon has been seen, as `forecast.rise` has it."""
    ahead = np.lib.stride_tricks.sliding_window_view(levels[1:], HORIZON_BINS).max(axis=1)
    rises: npt.NDArray[np.float64] = np.maximum(0.0, ahead - levels[: len(ahead)])
    return rises


def _expected(
    rises: npt.NDArray[np.float64], at: npt.NDArray[np.int64], first_bin: int
) -> npt.NDArray[np.float64]:
    """Median rise at the same times of days alike, as was known then; NaN where none was."""
    expected = np.full(len(at), np.nan)
    weekday = ((at + first_bin) // BINS_A_DAY) % 7
    near = np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    for day in np.unique(weekday):
        rows = np.flatnonzero(weekday == day)
        ago = np.array(days_alike(int(day)))
        index = (at[rows, None, None] - ago[None, :, None] + near[None, None, :]).reshape(len(rows), -1)
        samples = np.where(index >= 0, rises[np.maximum(index, 0)], np.nan)
        seen = ~np.isnan(samples).all(axis=1)
        expected[rows[seen]] = np.nanmedian(samples[seen], axis=1)
    return expected
