"""What a place that parts come from can say and do."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from e2e.parts.catalogue import Entry


class PartMissing(Exception):
    """A part cannot be had here; the message is the reason a skipped test shows."""


class PartRefused(Exception):
    """A part is there and is not what it should be. Never a reason to skip: somebody has to look."""


class State(StrEnum):
    """How far away a part is."""

    HERE = "here"
    """Used at once."""
    OBTAINABLE = "obtainable"
    """Fetched or built when a test asks."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """What a source knows of a part, without fetching or building anything."""

    state: State
    sentence: str
    """Where it is, or what would be done, or why it cannot be had."""


@dataclass(frozen=True)
class Part:
    """A part that can be used. `origin` says in words where it came from."""

    name: str
    version: str
    path: Path
    origin: str


class Source(Protocol):
    """One kind of place."""

    def look(self, name: str, entry: Entry) -> Finding | None:
        """Bounded in time; None where this kind of place is none for the part. Raises PartRefused."""
        ...

    def take(self, name: str, entry: Entry) -> Part:
        """The part, fetched or built if need be. Raises PartMissing, PartRefused."""
        ...
