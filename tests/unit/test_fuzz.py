"""`make fuzz` in small: nothing that strangers write makes a reader raise, or hides who holds a GPU."""

from tests.fuzz import run


def test_nothing_raises_and_no_holder_is_lost() -> None:
    found = run(400, 20, 3)
    assert {reported.what: dict(reported.raised) for reported in found if reported.raised} == {}
    assert sum(reported.counts["HOLDER LOST"] for reported in found) == 0
    assert sum(sum(reported.counts.values()) for reported in found) > 400 + 13 * 20
    reviews, watched = found[0], found[1:14]
    assert reviews.counts["admitted"] and reviews.counts["refused"]
    assert all(reported.counts["read"] and reported.counts["set aside"] for reported in watched)
