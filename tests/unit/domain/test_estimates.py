"""How long until it starts: a range that nine of ten waits end within, or a word that nothing can be said."""

import random

import pytest

from poolmgr.domain.estimates import ENOUGH, TOGETHER_SECONDS, Curve, Situation, Wait, place_of, spell


def waits(*seconds: float, ended: bool = True, together: bool = False) -> list[Wait]:
    step = 0.0 if together else TOGETHER_SECONDS
    return [Wait(value, ended, step * rank) for rank, value in enumerate(seconds)]


def test_nine_of_ten_waits_end_within_the_range_whatever_they_look_like() -> None:
    chance = random.Random(1)
    for draw in (
        lambda: chance.expovariate(1 / 60),
        lambda: chance.paretovariate(1.1) * 30,
        lambda: chance.choice((20.0, 400.0)),
        lambda: chance.gauss(600, 50),
    ):
        kept = 0
        for _ in range(400):
            found = Curve(Situation.QUEUED, waits(*(draw() for _ in range(60)))).estimate(0.0)
            assert found.low is not None and found.high is not None
            kept += found.low <= draw() <= found.high
        assert kept >= 0.9 * 400 - 12, "within what chance allows of 400 draws"


def test_too_few_waits_are_no_measure_and_the_sentence_says_what_it_depends_on() -> None:
    found = Curve(Situation.QUEUED, waits(*[30.0] * (ENOUGH - 1))).estimate(0.0, position=3)
    assert not found.known
    assert found.sentence == (
        "no estimate yet: it is number 3 in line, and its start depends on when others end, and only 18 such waits have been measured here"
    )
    assert "no such wait has been measured" in Curve(Situation.QUEUED, ()).estimate(0.0, position=1).sentence


def test_those_who_began_together_are_one_measure() -> None:
    burst = waits(*[30.0] * 100, together=True)
    assert not Curve(Situation.QUEUED, burst).estimate(0.0).known
    assert Curve(Situation.QUEUED, burst + waits(*[30.0] * ENOUGH)).estimate(0.0).known


def test_before_enough_moves_were_seen_an_assumption_is_told_as_one() -> None:
    found = Curve(Situation.MOVING, ()).estimate(0.0)
    assert found.known and found.assumed
    assert found.sentence == (
        "it should start in about a minute, and in nine cases of ten within 4 min (an assumption, until enough waits have been measured here)"
    )
    measured = Curve(Situation.MOVING, waits(*[200.0] * ENOUGH)).estimate(0.0)
    assert not measured.assumed
    assert measured.sentence == (
        "it should start in about 3 minutes, and in nine cases of ten within 3 min to 4 min (measured on 19 like it)"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "5 s"),
        (44, "45 s"),
        (45, "a minute"),
        (74, "a minute"),
        (76, "75 s"),
        (150, "2 minutes"),
        (10_000, "3 hours"),
        (200_000, "2 days"),
    ],
)
def test_a_minute_is_said_of_what_is_nearest_to_one(seconds: float, words: str) -> None:
    assert spell(seconds) == words


def test_who_has_waited_is_compared_with_those_who_waited_longer() -> None:
    curve = Curve(Situation.QUEUED, waits(*[10.0] * 50, *[1_000.0] * 50))
    fresh, old = curve.estimate(0.0), curve.estimate(400.0)
    assert fresh.low == 10.0
    assert (old.low, old.median, old.measured) == (600.0, 600.0, 50)
    assert not curve.estimate(2_000.0).known


def test_waits_that_go_on_count_as_longer() -> None:
    """A line that has come to a stand is seen before the first of it has started."""
    before = Curve(Situation.QUEUED, waits(*[30.0] * 40)).estimate(0.0)
    stands = Curve(Situation.QUEUED, waits(*[30.0] * 40) + waits(*[3_600.0] * 40, ended=False)).estimate(0.0)
    assert before.known
    assert not stands.known


def test_one_that_takes_longer_than_all_before_it_is_told_so() -> None:
    found = Curve(Situation.MOVING, waits(*[30.0] * 40)).estimate(500.0)
    assert found.sentence == "it has waited longer than others did, so no estimate is possible"


def test_places_in_line_are_classes_that_double() -> None:
    assert [place_of(position) for position in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]
