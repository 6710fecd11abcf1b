"""Enumerations of our own objects, read tolerantly: a newer release may have written a value that this one lacks."""

from enum import StrEnum
from typing import TypeVar

E = TypeVar("E", bound=StrEnum)


def known(kind: type[E], value: str, least: E) -> E:
    """The member, or `least`, the choice that does least, for a value that this release does not know."""
    try:
        return kind(value)
    except ValueError:
        return least
