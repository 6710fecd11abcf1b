"""Rises of demand: learnt from earlier weeks, harmless where the past was wrong or is missing."""

import pytest

from poolmgr.planner.sizing.forecast import BINS_A_DAY, BINS_A_WEEK, record, rise, rise_quantile


def history(levels: list[int]) -> dict[str, object]:
    return {"first": 0, "levels": levels}


def days_with_a_morning(count: int, height: int) -> list[int]:
    """Nothing at night, `height` GPUs from nine to five."""
    day = [height if 9 <= n * 24 / BINS_A_DAY < 17 else 0 for n in range(BINS_A_DAY)]
    return day * count


def test_rise_is_the_most_that_follows_within_the_horizon() -> None:
    levels = [1.0, 4.0, 2.0, 2.0, 9.0]
    assert [rise(levels, at, 2) for at in range(3)] == [3.0, 0.0, 7.0]


def test_morning_that_came_every_day_is_expected_before_it_comes() -> None:
    known = history(days_with_a_morning(14, 40))
    eight = 14 * BINS_A_DAY + int(8.9 / 24 * BINS_A_DAY)
    noon = 14 * BINS_A_DAY + BINS_A_DAY // 2
    assert rise_quantile(known, eight, 6, 0.9) == 40
    assert rise_quantile(known, noon, 6, 0.9) == 0


def test_level_that_drifted_does_not_spoil_the_rise() -> None:
    drifting = [100 + week for week in range(2) for _ in range(BINS_A_WEEK)]
    assert rise_quantile(history(drifting), 2 * BINS_A_WEEK + 10, 3, 0.9) == 0


def test_without_history_the_last_hour_stands_in() -> None:
    assert rise_quantile(history([0]), 1, 3, 0.9) == 0
    assert rise_quantile(history([0, 1, 2, 3, 4, 5, 6, 7, 8]), 9, 2, 0.5) == 2


def test_ledger_keeps_the_highest_of_a_bin_and_fills_gaps() -> None:
    known = record(None, 10, 3)
    known = record(known, 10, 5)
    known = record(known, 10, 4)
    known = record(known, 13, 1)
    assert known == {"first": 10, "levels": [5, 5, 5, 1]}


def test_ledger_forgets_after_a_month() -> None:
    known = record(history([1] * (4 * BINS_A_WEEK + BINS_A_DAY)), 4 * BINS_A_WEEK + BINS_A_DAY, 9)
    assert len(known["levels"]) == 4 * BINS_A_WEEK + BINS_A_DAY
    assert known["first"] == 1
    assert known["levels"][-1] == 9


@pytest.mark.parametrize("levels", [[], [5]])
def test_too_short_a_past_predicts_no_rise(levels: list[int]) -> None:
    assert rise_quantile(history(levels), 5, 4, 0.9) == 0
