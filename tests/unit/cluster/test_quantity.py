"""Quantities come back in whatever form the API server likes."""

import pytest

from poolmgr.cluster.quantity import count, mebibytes, milli, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3k", 3000),
        ("3000", 3000),
        (3000, 3000),
        ("1Ki", 1024),
        ("2Gi", 2 * 2**30),
        ("1e3", 1000),
        ("2E", 2 * 10**18),
    ],
)
def test_reads_every_form(text: str | int, value: int) -> None:
    assert parse_quantity(text) == value


def test_rounds_up_to_the_unit_asked_for() -> None:
    assert milli("1.5") == 1500
    assert milli("100u") == 1
    assert mebibytes("1Gi") == 1024
    assert mebibytes("1") == 1
    assert count("3k") == 3000


@pytest.mark.parametrize("text", ["", "Gi", "3 q", "a3", "--1"])
def test_refuses_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        parse_quantity(text)
