"""The statements of the HAMi contract, read from `statements.yaml`."""

from dataclasses import dataclass
from pathlib import Path

import yaml

V8, V10 = "2.8.3", "2.10.0"
BOTH = (V8, V10)
FILE = Path(__file__).with_name("statements.yaml")


@dataclass(frozen=True)
class Statement:
    """`correction`: what was believed before the real HAMi was asked."""

    number: int
    text: str
    releases: tuple[str, ...]
    correction: str


@dataclass(frozen=True)
class Section:
    title: str
    statements: tuple[Statement, ...]


def _read() -> tuple[Section, ...]:
    return tuple(
        Section(
            entry["section"],
            tuple(
                Statement(
                    item["number"],
                    item["text"],
                    (item["only"],) if "only" in item else BOTH,
                    item.get("correction", ""),
                )
                for item in entry["statements"]
            ),
        )
        for entry in yaml.safe_load(FILE.read_text())
    )


SECTIONS = _read()
STATEMENTS = {statement.number: statement for section in SECTIONS for statement in section.statements}
