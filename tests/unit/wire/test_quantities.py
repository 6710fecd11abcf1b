"""Kubernetes quantities."""

from decimal import Decimal

import pytest

from poolmgr.wire.quantities import count, milli, parse_quantity, whole_mebibytes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3000", 3000),
        ("3k", 3000),
        ("3e3", 3000),
        ("1.5k", 1500),
        ("2E", 2 * 10**18),
        ("2E1", 20),
        (".5k", 500),
        ("2Gi", 2**31),
        (7, 7),
        (0.5, Decimal("0.5")),
        (1e300, 10**300),
    ],
)
def test_reads_what_the_api_server_stores(text: str | int | float, value: object) -> None:
    assert parse_quantity(text) == value


def test_rounds_up_as_the_scheduler_does() -> None:
    assert (count("1500m"), milli("1.5"), whole_mebibytes("1"), whole_mebibytes("3Mi")) == (2, 1500, 0, 3)


@pytest.mark.parametrize(
    "text", ["", "many", "3 k", "Gi", "--1", "NaN", "Infinity", "1e9999", "1Kib", " 1", float("inf")]
)
def test_refuses_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        parse_quantity(text)


def test_no_amount_is_beyond_what_kubernetes_stores() -> None:
    assert count("1e999") == whole_mebibytes("9" * 60 + "E") == milli(10**30) == 2**63 - 1
    assert count("-1e999") == -(2**63 - 1)
