"""Numbers and lists of strangers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.wire.text import listed, whole


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.5", "\u0664\u0662", "1_000", " 1", "9" * 19, "9" * 5_000]
)
def test_what_is_no_short_number_is_the_other_value(text: str) -> None:
    assert whole(text) == 0
    assert whole(text, 7) == 7


@given(st.integers(0, 10**18 - 1))
def test_number_that_fits_is_read(number: int) -> None:
    assert whole(str(number)) == number


def test_list_has_no_blanks_and_no_empty_members() -> None:
    assert listed(" a, b ,,c, ") == ("a", "b", "c")
    assert listed("") == listed(None) == ()
