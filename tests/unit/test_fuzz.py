"""`make fuzz` in small: nothing that strangers write makes a reader raise, or hides who holds a GPU."""

from tests.fuzz import run


def test_nothing_raises_and_no_holder_is_lost() -> None:
    found = run(400, 20, 3)
    assert {told.what: dict(told.raised) for told in found if told.raised} == {}
    assert sum(told.counts["HOLDER LOST"] for told in found) == 0
    assert sum(sum(told.counts.values()) for told in found) > 400 + 13 * 20
    reviews, watched = found[0], found[1:14]
    assert reviews.counts["admitted"] and reviews.counts["refused"]
    assert all(told.counts["read"] and told.counts["set aside"] for told in watched)
