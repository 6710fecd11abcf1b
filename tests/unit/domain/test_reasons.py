"""Reason codes over releases."""

import pytest

from poolmgr.domain.reasons import ALIASES, Reason


@pytest.mark.parametrize(("old", "now"), ALIASES.items())
def test_a_renamed_code_is_read_as_the_one_of_now(old: str, now: str) -> None:
    assert Reason(old) is Reason(now)
    assert Reason(old).value == now != old


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        Reason("Nonsense")
