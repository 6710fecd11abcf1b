"""May the forecast be acted on? Judged by what it would have said of the last days, and what came instead.

Two measures, both computed from the history of demand alone, so that nothing else that was learned can be wrong:

- `overforecast_ratio`: the median rise at the same time on days alike is what the forecast would have expected of the
  next two hours. GPUs that it expected and that did not come are divided by GPUs that came: they are what is held and
  lent for nobody. GPUs that came unexpected count less. A forecast that only says too little holds nothing for nobody,
  waiting VMs raise its risk aversion (`ForecastSizer`), and it learns from days like today. A bad forecast shows here
  in the first morning.
- `level_bias`: GPUs that VMs had on days alike at the hours just past, for each one that they have today. Where days
  alike had nearly twice as many, the coming rise is overestimated too. A bad forecast shows here the night before.

Measured on 25 weeks of term of a library's desktops (`uncg-desktops`): overforecast below .4 in ordinary weeks, level bias
at most 1.4. A forecast that is three times too high is found out within four hours of a night, one that is six hours late
before the morning's rise. A holiday is, too, and is forgotten after its night: one day on which nearly nobody came says
nothing about the next. Two are a vacation, and count until two ordinary days have passed.

The forecast is dropped and taken up again at different thresholds, so that it does not flap with every busy hour.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from poolmgr.planner.sizing.forecast import (
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
UNEXPECTED = 0.3
"""What a GPU that came unexpected counts, of one that was expected and did not come."""
PRIOR_OVERFORECAST = 0.25
PRIOR_DAYS = 0.5
"""Begins like an ordinary week, as heavy as half a day's rises: one odd hour says little."""
OUTLIER_DAY = 0.2
"""Of what was expected of a day: where less came, it was a day off. A forecast that is five times too high every day
is told by `level_bias`."""
LOST_ABOVE = 0.5
WON_BELOW = 0.35
LEVEL_BINS = BINS_A_DAY // 2
LEVEL_HALF_LIFE_BINS = 24.0
LEVEL_PRIOR = 1.0
"""GPUs: where days alike had one, none today says nothing."""
TOO_HIGH_ABOVE = 1.8
FITS_BELOW = 1.25


def is_accurate(accurate: bool, history: dict[str, Any], now_bin: int) -> bool:
    """Whether the forecast from `history` may be acted on now, `accurate` telling whether it was until now. Before a
    whole week is known it may not: the days that would speak for the next ones have not been seen."""
    if now_bin - int(history["first"]) < BINS_A_WEEK or not any(history["levels"]):
        return False
    if level_bias(history) > (TOO_HIGH_ABOVE if accurate else FITS_BELOW):
        return False
    return overforecast_ratio(history) <= (LOST_ABOVE if accurate else WON_BELOW)


def level_bias(history: dict[str, Any]) -> float:
    """How many GPUs VMs had on days alike at the hours just past, for each one that they had today; two hours ago
    counts half. `history` as for `overforecast_ratio`."""
    levels = np.asarray(history["levels"], dtype=np.float64)
    judged = np.arange(max(0, len(levels) - LEVEL_BINS), len(levels))
    usual = _expected(levels, judged, int(history["first"]))
    known = ~np.isnan(usual)
    weight = 0.5 ** ((judged[-1] - judged[known]) / LEVEL_HALF_LIFE_BINS)
    today = float((weight * (levels[judged[known]] + LEVEL_PRIOR)).sum())
    return float((weight * usual[known]).sum()) / today if today > 0 else 0.0


def overforecast_ratio(history: dict[str, Any]) -> float:
    """GPUs expected that did not come, and in part those that came unexpected, for each GPU of real rise. `history` is what `forecast.record`
    keeps, with at least `HORIZON_BINS` + 2 bins."""
    rises = _rises(np.asarray(history["levels"], dtype=np.float64))
    judged = np.arange(max(0, len(rises) - JUDGED_BINS), len(rises))
    said = _expected(rises, judged, int(history["first"]))
    known = ~np.isnan(said)
    judged, said = judged[known], said[known]
    real = rises[judged]
    weight = 0.5 ** ((len(rises) - 1 - judged) / HALF_LIFE_BINS)
    day = (judged + int(history["first"])) // BINS_A_DAY
    today = (int(history["first"]) + len(history["levels"]) - 1) // BINS_A_DAY
    weight[_outlier_day(day, said, real, today)] = 0.0
    prior = PRIOR_DAYS * BINS_A_DAY * float(rises.mean())
    came = prior + float((weight * real).sum())
    more = said - real
    erred = PRIOR_OVERFORECAST * prior + float((weight * np.where(more > 0, more, -UNEXPECTED * more)).sum())
    return erred / came if came > 0 else 0.0


def _outlier_day(
    day: npt.NDArray[np.int64], said: npt.NDArray[np.float64], real: npt.NDArray[np.float64], today: int
) -> npt.NDArray[np.bool_]:
    """Which bins lie on the only day before `today` on which nearly nothing came of what was said; `day` of each."""
    days, row = np.unique(day, return_inverse=True)
    came, expected = np.bincount(row, weights=real), np.bincount(row, weights=said)
    off = (came < OUTLIER_DAY * expected) & (days < today)
    only: npt.NDArray[np.bool_] = (off & (off.sum() == 1))[row]
    return only


def _rises(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each bin whose whole horizon has been seen, as `forecast.rise` has it."""
    ahead = np.lib.stride_tricks.sliding_window_view(levels[1:], HORIZON_BINS).max(axis=1)
    rises: npt.NDArray[np.float64] = np.maximum(0.0, ahead - levels[: len(ahead)])
    return rises


def _expected(
    series: npt.NDArray[np.float64], at: npt.NDArray[np.int64], first_bin: int
) -> npt.NDArray[np.float64]:
    """Median at the same times of days alike, as was known then; NaN where none was."""
    expected = np.full(len(at), np.nan)
    weekday = ((at + first_bin) // BINS_A_DAY) % 7
    near = np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    for day in np.unique(weekday):
        rows = np.flatnonzero(weekday == day)
        ago = np.array(days_alike(int(day)))
        index = (at[rows, None, None] - ago[None, :, None] + near[None, None, :]).reshape(len(rows), -1)
        samples = np.where(index >= 0, series[np.maximum(index, 0)], np.nan)
        seen = ~np.isnan(samples).all(axis=1)
        expected[rows[seen]] = np.nanmedian(samples[seen], axis=1)
    return expected
