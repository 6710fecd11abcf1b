"""Tables where nobody gave them enough columns."""

import pytest
from rich.table import Table

from poolmgr.cli.tables import console_for


def table() -> Table:
    made = Table("PCI", "Held by", box=None)
    made.add_row("0000:00:10.0", "python " * 20)
    return made


@pytest.mark.parametrize("columns", ["20", "80", "400"])
def test_no_cell_is_cut_however_narrow_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    console_for(table()).print(table())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["PCI", "Held", "by"], ["0000:00:10.0", *["python"] * 20]]


def test_a_wide_terminal_stays_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert console_for(table()).width == 400
