"""Tables on stdout whose cells are never cut."""

from rich.console import Console
from rich.table import Table


def console_for(table: Table) -> Console:
    """A console as wide as the terminal, or as `table` where that is wider: a pipe and `kubectl exec` count as 80
    columns, and a line that a narrow terminal wraps loses less than half an address does."""
    console = Console()
    wanted = console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum
    return console if wanted <= console.width else Console(width=wanted)


UNBOUNDED = 10_000
"""Columns: wider than any table here."""
