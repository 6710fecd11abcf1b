"""Rows for people and for programs. No colours, no frames, and no cell is ever cut: as `kubectl get` writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    """As `-o name` writes it, e.g. `gpupool.poolmgr.io/desktops`."""
    cells: tuple[str, ...]
    """One for each column of the listing, the wide ones last."""
    value: Mapping[str, Any]
    """For JSON and YAML."""


@dataclass(frozen=True, slots=True)
class Listing:
    columns: tuple[str, ...]
    wide: tuple[str, ...]
    """More columns, of `-o wide`."""
    rows: tuple[Row, ...]

    def only(self, rows: Sequence[Row]) -> "Listing":
        return Listing(self.columns, self.wide, tuple(rows))


GAP = "   "


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells under each other; each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def dumped(value: Any, form: Format) -> str:
    """A value as JSON or YAML."""
    if form is Format.YAML:
        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()
    return json.dumps(value, indent=2, ensure_ascii=False)


def written(listing: Listing, form: Format, about: Mapping[str, Any], *, header: bool = True) -> str:
    """The listing in one format. `about` goes before the items in JSON and YAML: when it was read, and what was not."""
    if form in (Format.JSON, Format.YAML):
        return dumped({**about, "items": [dict(row.value) for row in listing.rows]}, form)
    if form is Format.NAME:
        return "\n".join(row.name for row in listing.rows)
    columns = listing.columns + (listing.wide if form is Format.WIDE else ())
    lines = [[cell or "-" for cell in row.cells[: len(columns)]] for row in listing.rows]
    return aligned([columns, *lines] if header else lines) if lines else ""


def age(seconds: float) -> str:
    """As kubectl writes ages: 45s, 12m, 3h5m, 4d2h."""
    left = max(0, round(seconds))
    if left < 120:
        return f"{left}s"
    if left < 3 * 3_600:
        return f"{left // 60}m"
    if left < 2 * 86_400:
        hours, minutes = divmod(left // 60, 60)
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{left // 86_400}d"
