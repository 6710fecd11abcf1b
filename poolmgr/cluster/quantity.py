"""Kubernetes quantities. `3000` written by a user may come back as `3k`: never read one with int()."""

from decimal import Decimal, InvalidOperation
from functools import lru_cache

_SUFFIXES = {
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(1000),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
"""k8s.io/apimachinery/pkg/api/resource/suffix.go. `E` is tried only where the text is no exponent form."""


@lru_cache(maxsize=8192)
def parse_quantity(text: str | int) -> Decimal:
    """The value in base units. Raises ValueError on anything that the API server would not have stored."""
    if isinstance(text, int):
        return Decimal(text)
    try:
        return Decimal(text)
    except InvalidOperation:
        pass
    for suffix, factor in _SUFFIXES.items():
        if text.endswith(suffix):
            try:
                return Decimal(text[: -len(suffix)]) * factor
            except InvalidOperation:
                break
    raise ValueError(f"not a Kubernetes quantity: {text!r}")


@lru_cache(maxsize=8192)
def milli(text: str | int) -> int:
    """Thousandths, rounded up as the scheduler does: `1.5` and `1500m` are 1500."""
    return _ceil(parse_quantity(text) * 1000)


@lru_cache(maxsize=8192)
def mebibytes(text: str | int) -> int:
    """MiB, rounded up."""
    return _ceil(parse_quantity(text) / 2**20)


@lru_cache(maxsize=8192)
def count(text: str | int) -> int:
    """Whole units, rounded up; for extended resources, which the API server keeps whole."""
    return _ceil(parse_quantity(text))


def _ceil(value: Decimal) -> int:
    whole = int(value)
    return whole + 1 if value > whole else whole
