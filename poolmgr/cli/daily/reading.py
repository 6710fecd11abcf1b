"""One reading of the cluster for a command, and what stands under every answer: when it was read, and what was not."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from poolmgr.cli.daily.connection import SURROUNDINGS, with_cluster
from poolmgr.cli.daily.listing import Format, Listing, Row, written
from poolmgr.cluster.look import Look, look
from poolmgr.wire.instants import to_rfc3339

Output = Annotated[
    Format, typer.Option("--output", "-o", help="table, wide (more columns), json, yaml or name.")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Keep running, and print rows that change.")]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Do not print the column names.")]

WATCH_SECONDS = 2.0
"""Between two readings of --watch."""


def read(kubeconfig: str | None, context: str | None) -> Look:
    """See `cluster.look.look`."""
    return with_cluster(kubeconfig, context, look)


def about(found: Look) -> dict[str, Any]:
    """For JSON and YAML: when it was read, and what the caller may not read."""
    unseen = [{"kind": u.kind, "why": u.why} for u in found.unseen]
    return {"readAt": to_rfc3339(found.snapshot.taken_at), "unseen": unseen}


def warn(found: Look) -> None:
    """On stderr, what the answer lacks."""
    for unseen in found.unseen:
        typer.echo(f"not seen: {unseen.kind} ({unseen.why})", err=True)


def show(
    read_rows: Callable[[], tuple[Listing, Mapping[str, Any]]],
    form: Format,
    *,
    watch: bool,
    header: bool = True,
    nothing: str,
) -> None:
    """Write the listing; with `watch` until Ctrl-C, and after the first time only the rows that changed."""
    known: dict[str, Row] = {}
    first = True
    while True:
        listing, said = read_rows()
        # Ages grow all the time: a row has changed when its value has.
        fresh = [
            row
            for row in listing.rows
            if first or row.name not in known or known[row.name].value != row.value
        ]
        if fresh or (first and form in (Format.JSON, Format.YAML)):
            print(written(listing.only(fresh), form, said, header=header and first), flush=True)
        elif first:
            typer.echo(nothing, err=True)
        if not watch:
            return
        known, first = {row.name: row for row in listing.rows}, False
        try:
            SURROUNDINGS.get().pause(WATCH_SECONDS)
        except KeyboardInterrupt:
            return
