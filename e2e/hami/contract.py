"""Ties tests to the statements that they show, and keeps what was seen on the real HAMi."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.hami.statements import BOTH, STATEMENTS

CHECKED = Path(__file__).resolve().parent / "checked.json"
"""Release → statement → day on which its tests last passed on the real HAMi; what `--record-hami-contract` writes."""

Seen = dict[str, dict[int, bool]]
"""Release → statement → whether all its tests passed."""


def shows(*numbers: int, on: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Runs a test, once for each release that they all hold for, as one that shows these statements.

    `on` narrows the releases. The test takes `release`; `standing` is the HAMi of that release.
    """
    held = [release for release in BOTH if all(release in STATEMENTS[number].releases for number in numbers)]
    held = [release for release in held if not on or release in on]
    if not held:
        raise ValueError(f"no release has all of the statements {numbers}")

    def decorate(test: Any) -> Any:
        cases = [pytest.param(release, id=release, marks=pytest.mark.hami(release)) for release in held]
        marked = pytest.mark.statement(*numbers)(test)
        return pytest.mark.parametrize("release", cases)(marked)

    return decorate


def read_checked() -> dict[str, dict[str, str]]:
    checked: dict[str, dict[str, str]] = json.loads(CHECKED.read_text())
    return checked


def record(seen: Seen, day: str) -> None:
    """Adds what passed on the real HAMi and takes away what failed there."""
    checked = read_checked()
    for release, outcomes in seen.items():
        days = checked.setdefault(release, {})
        for number, passed in outcomes.items():
            days.pop(str(number), None)
            if passed:
                days[str(number)] = day
        checked[release] = dict(sorted(days.items(), key=lambda item: int(item[0])))
    CHECKED.write_text(json.dumps(dict(sorted(checked.items())), indent=1) + "\n")
