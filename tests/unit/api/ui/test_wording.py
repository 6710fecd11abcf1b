"""Numbers and instants in words."""

import pytest

from poolmgr.api.ui.wording import clock_time, day_and_time, duration, hour_and_minute, plural, sentence
from tests.showcase import NOW


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_900, "1 h 05 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_instants_are_utc_and_say_exactly_when_for_the_readers_own_zone() -> None:
    assert hour_and_minute(NOW) == "08:00"
    assert clock_time(NOW) == '<time datetime="2027-01-15T08:00:00Z" data-as="clock">08:00</time>'
    assert day_and_time(NOW) == (
        '<time datetime="2027-01-15T08:00:00Z" data-as="moment">Fri 15 Jan 2027, 08:00 UTC</time>'
    )


def test_plural_and_sentence() -> None:
    assert (plural(1, "GPU"), plural(2, "GPU"), plural(2, "is", "are")) == ("1 GPU", "2 GPUs", "2 are")
    assert (sentence("it waits"), sentence("Why?"), sentence("")) == ("It waits.", "Why?", "")
