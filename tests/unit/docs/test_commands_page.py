"""The page about commands names every option that they have."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from poolmgr.cli.main import app

PAGE = Path(__file__).parents[3] / "docs/reference/simulate-plan-bench.md"


@pytest.mark.parametrize("name", ["simulate", "plan", "snapshot"])
def test_every_option_is_on_the_page(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
    options = set(re.findall(r"^[│|] +\*? *(--[a-z-]+) ", shown.output, re.MULTILINE)) - {"--help"}
    assert len(options) > 3, shown.output
    said = PAGE.read_text()
    assert {option for option in options if not re.search(rf"{option}\b", said)} == set()
