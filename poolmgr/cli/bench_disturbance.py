"""`poolmgr bench disturbance`: what moves cost each node while agents fall silent and GPUs cannot be rebound."""

from typing import Annotated

import typer


def disturbance(
    hours: Annotated[int, typer.Option(help="Of virtual time.", min=1)] = 6,
    nodes: Annotated[int, typer.Option(help="With four GPUs each.", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="Of demand and trouble.")] = 1,
    hami: Annotated[str, typer.Option(help="Release, 2.8 or 2.10.")] = "2.10",
) -> None:
    """Run the manager on a simulated fleet for hours and count stops of HAMi's plugin, cordon and absence by node.

    \b
    Example: poolmgr bench disturbance --hours 12 --nodes 6
    """
    import asyncio
    import logging

    import structlog
    from rich.table import Table

    from bench.disturbance.hours import HEADINGS, LAST_MOVE_SECONDS, Hours
    from poolmgr.cli.tables import console_for
    from poolmgr.domain.backoff import CLOSED_SECONDS_AN_HOUR, PLUGIN_STOPS_AN_HOUR

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    major, _, minor = hami.partition(".")
    costs = asyncio.run(Hours(nodes, seed, (int(major), int(minor))).run(hours))
    table = Table(title=f"{hours} h, seed {seed}, HAMi {hami}")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "node" else "right", no_wrap=True)
    for cost in costs:
        table.add_row(*cost.row())
    console = console_for(table)
    console.print(table)
    console.print(
        f"bound in any hour: {PLUGIN_STOPS_AN_HOUR} stops, {CLOSED_SECONDS_AN_HOUR:.0f} s closed and {LAST_MOVE_SECONDS:.0f} s for "
        "the move that reaches it"
    )
    if not all(cost.within_bounds for cost in costs):
        raise typer.Exit(1)
