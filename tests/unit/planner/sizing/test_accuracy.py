"""Trust in the forecast: kept in ordinary weeks, lost where the past does not speak for the present, won back."""

from typing import Any

import numpy as np
import pytest

from poolmgr.planner.sizing.accuracy import is_accurate, level_bias, overforecast_ratio
from poolmgr.planner.sizing.forecast import BINS_A_DAY, BINS_A_WEEK

MORNING = BINS_A_DAY * 9 // 24


def day(height: int, *, at: int = MORNING, hours: int = 8) -> list[int]:
    """Demand climbs to `height` within three hours of bin `at` and is gone `hours` later."""
    levels = [0] * BINS_A_DAY
    for n in range(at, min(BINS_A_DAY, at + hours * 12)):
        levels[n] = min(height, (n - at) * height // 36)
    return levels


def history(*days: list[int]) -> dict[str, Any]:
    """Days one after the other from a Monday on."""
    return {"first": 0, "levels": [level for levels in days for level in levels]}


def judged(known: dict[str, Any], *, accurate: bool = True) -> bool:
    return is_accurate(accurate, known, len(known["levels"]) - 1)


def weeks(count: int) -> list[list[int]]:
    return ([day(60)] * 5 + [day(0)] * 2) * count


def test_what_repeats_exactly_is_trusted() -> None:
    known = history(*weeks(3), day(60), day(60))
    assert overforecast_ratio(known) < 0.15
    assert judged(known)


def test_what_repeats_with_the_noise_of_people_is_trusted() -> None:
    chance = np.random.default_rng(3)
    levels = np.array(history(*weeks(4), day(60), day(60))["levels"]) + chance.poisson(6, 30 * BINS_A_DAY)
    assert judged({"first": 0, "levels": levels.tolist()})


@pytest.mark.parametrize(
    "came",
    [day(20), day(60, at=MORNING + 72, hours=6), day(0)],
    ids=["a third of what was said", "six hours later", "nobody"],
)
def test_a_morning_for_which_too_much_was_said_ends_trust(came: list[int]) -> None:
    assert not judged(history(*weeks(4), came))


def night(level: int, *, then: int = 60) -> list[int]:
    """A day with some VMs all night."""
    return [max(level, level + n) for n in day(then)]


@pytest.mark.parametrize(("level", "kept"), [(30, True), (20, True), (12, False), (8, False), (0, False)])
def test_a_night_with_far_fewer_vms_than_usual_ends_trust_before_the_morning(level: int, kept: bool) -> None:
    usual = ([night(30)] * 5 + [night(30, then=0)] * 2) * 4
    six_hours = [level] * 72
    known = history(*usual, six_hours)
    assert (level_bias(known) > 1.8) is not kept
    assert judged(known) is kept


def test_where_there_are_only_ever_one_or_two_vms_none_at_night_says_nothing() -> None:
    known = history(*([night(1, then=2)] * 28), [0] * 72)
    assert judged(known)


def test_trust_lost_in_a_quiet_night_is_won_back_when_the_day_is_as_usual() -> None:
    usual = ([night(30)] * 5 + [night(30, then=0)] * 2) * 4
    known = history(*usual, [10] * 60 + night(30)[60:])
    assert judged(known, accurate=False)


def test_too_little_said_does_not_as_nothing_is_held_for_nobody() -> None:
    assert judged(history(*weeks(4), day(240), day(240)))


def test_one_odd_hour_does_not() -> None:
    odd = day(60)
    odd[30:42] = [15] * 12
    assert judged(history(*weeks(4), odd))


def test_a_holiday_is_over_with_its_night() -> None:
    holiday = [*weeks(4), day(0)]
    assert not judged(history(*holiday), accurate=False)
    eight_in_the_morning = MORNING - 12
    assert judged(history(*holiday, day(60)[:eight_in_the_morning]), accurate=False)


def test_a_vacation_is_forgotten_after_two_ordinary_days() -> None:
    after = [history(*weeks(4), day(0), day(0), *[day(60)] * count) for count in range(3)]
    assert [judged(known, accurate=False) for known in after] == [False, False, True]


def test_between_the_two_levels_it_stays_as_it_was() -> None:
    """A third less than expected: not right, not wrong enough."""
    known = history(*weeks(4), day(60), day(40), day(40))
    assert 0.35 < overforecast_ratio(known) <= 0.5
    assert judged(known, accurate=True)
    assert not judged(known, accurate=False)


def test_less_than_a_week_and_a_past_without_vms_are_not_trusted() -> None:
    assert not judged(history(*weeks(1)[:6]))
    assert not judged(history(*[[0] * BINS_A_DAY] * 14))


def test_gaps_in_what_is_known_are_no_error() -> None:
    """The history began on a Thursday: nothing speaks for the first days."""
    levels = history(*weeks(2))["levels"][3 * BINS_A_DAY :]
    assert judged({"first": 3 * BINS_A_DAY, "levels": levels})
    assert len(levels) > BINS_A_WEEK
