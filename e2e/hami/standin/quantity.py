"""Kubernetes quantities (`3k`, `1Gi`, `500m`) as whole numbers."""

import math
from fractions import Fraction

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
} | {f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", start=1)}


def exact(quantity: str | int) -> Fraction:
    """The number meant. Raises ValueError."""
    text = str(quantity).strip()
    number = text.rstrip("numkMGTPEi")
    suffix = text[len(number) :]
    if suffix not in _SUFFIXES:
        raise ValueError(f"not a quantity: {quantity!r}")
    return Fraction(number) * _SUFFIXES[suffix]


def rounded_up(quantity: str | int) -> int:
    return math.ceil(exact(quantity))


def whole(quantity: str | int) -> int | None:
    """The number, if it is a whole one."""
    number = exact(quantity)
    return int(number) if number.denominator == 1 else None
