"""Instants in every form that RFC 3339 has, and no other."""

import pytest

from poolmgr.wire.instants import from_rfc3339, to_rfc3339, unix_or_zero

NOON = 1_795_348_800.0


@pytest.mark.parametrize(
    ("text", "after_noon"),
    [
        ("2026-11-22T12:00:00Z", 0),
        ("2026-11-22t12:00:00z", 0),
        ("2026-11-22 12:00:00Z", 0),
        ("2026-11-22T13:30:00+01:30", 0),
        ("2026-11-22T12:00:00-00:00", 0),
        ("2026-11-22T12:00:00.5Z", 0.5),
        ("2026-11-22T12:00:00.123456789012z", 0.123456789012),
        ("2026-11-22T11:59:60Z", 0),
    ],
)
def test_every_form_is_read(text: str, after_noon: float) -> None:
    assert from_rfc3339(text) == pytest.approx(NOON + after_noon)
    assert unix_or_zero(text) == pytest.approx(NOON + after_noon)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T12:00:00",
        "2026-11-22",
        "2026-11-22T12:00Z",
        "20261122T120000Z",
        "2026-W47-7T12:00:00Z",
        "2026-11-31T12:00:00Z",
        "2026-11-22T25:00:00Z",
        "2026-11-22T12:00:61Z",
        "2026-11-22T12:00:00+99:00",
        "２０26-11-22T12:00:00Z",
        "2026-11-22T12:00:00." + "0" * 64 + "Z",
    ],
)
def test_nothing_else_is_an_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_rfc3339(text)
    assert unix_or_zero(text) == 0.0


def test_what_is_written_is_read() -> None:
    assert to_rfc3339(NOON) == "2026-11-22T12:00:00Z"
    assert from_rfc3339(to_rfc3339(NOON)) == NOON


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T00:00:00Z",
        "9000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_instant_at_the_end_of_the_calendar_is_none(text: str) -> None:
    """A minute later, or in another zone, it could not be told any more."""
    with pytest.raises(ValueError, match="not an instant"):
        from_rfc3339(text)
    assert unix_or_zero(text) == 0.0
