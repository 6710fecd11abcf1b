"""Kubernetes quantities. `3000` written by a user may come back as `3k`: never read one with int()."""

import re
from decimal import Decimal
from functools import lru_cache

Quantity = str | int | float
"""The API server writes text; in a manifest, `cpu: 0.5` is a number."""

_SUFFIXES = {
    "": Decimal(1),
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
"""k8s.io/apimachinery/pkg/api/resource/suffix.go."""

_FORM = re.compile(
    r"([+-]?(?:[0-9]{1,64}\.?[0-9]{0,64}|\.[0-9]{1,64}))(?:[eE]([+-]?[0-9]{1,3})|([A-Za-z]{0,2}))", re.A
)
"""Lengths are bounded because tenants write quantities: `1e999999999` must cost nothing to refuse."""


@lru_cache(maxsize=8192)
def parse_quantity(text: Quantity) -> Decimal:
    """The value in base units. Raises ValueError on anything that the API server would not have stored."""
    if isinstance(text, int):
        return Decimal(text)
    if isinstance(text, float):
        text = repr(text)
    found = _FORM.fullmatch(text)
    if not found or (found[3] or "") not in _SUFFIXES:
        raise ValueError(f"not a Kubernetes quantity: {text!r}")
    if found[2]:
        return Decimal(found[1]).scaleb(int(found[2]))
    return Decimal(found[1]) * _SUFFIXES[found[3] or ""]


@lru_cache(maxsize=8192)
def milli(text: Quantity) -> int:
    """Thousandths, rounded up as the scheduler does: `1.5` and `1500m` are 1500."""
    return _ceil(parse_quantity(text) * 1000)


@lru_cache(maxsize=8192)
def whole_mebibytes(text: Quantity) -> int:
    """MiB, rounded down: of what there is, not of what is asked for."""
    return -_ceil(-parse_quantity(text) / 2**20)


@lru_cache(maxsize=8192)
def count(text: Quantity) -> int:
    """Whole units, rounded up; for extended resources, which the API server keeps whole."""
    return _ceil(parse_quantity(text))


LARGEST = 2**63 - 1
"""No quantity may be larger (k8s.io/apimachinery/pkg/api/resource/quantity.go); the API server caps what is."""


def _ceil(value: Decimal) -> int:
    if abs(value) >= LARGEST:
        return LARGEST if value > 0 else -LARGEST
    whole = int(value)
    return whole + 1 if value > whole else whole
