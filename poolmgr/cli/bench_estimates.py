"""`poolmgr bench estimates`: how often what users are told of how long they wait comes true."""

from pathlib import Path
from typing import Annotated

import typer


def estimates(
    data: Annotated[Path, typer.Option(help="Folder with the traces.")],
    scenario: Annotated[str, typer.Option(help="As of `poolmgr simulate`.")] = "S2",
    load: Annotated[float, typer.Option(help="Offered GPUs / GPUs.", min=0.01)] = 0.96,
    seeds: Annotated[str, typer.Option(help="Which seeds, e.g. 1-5.")] = "1",
    split: Annotated[str, typer.Option(help="Weeks to draw from: develop, held-out, all.")] = "held-out",
    days: Annotated[int, typer.Option(help="Length of the window.", min=1)] = 7,
    flip_seconds: Annotated[float, typer.Option(help="How long one move takes.", min=0.0)] = 60.0,
    tick_seconds: Annotated[float, typer.Option(help="How often the planner looks.", min=1.0)] = 15.0,
) -> None:
    """Replay demand, give every VM that waits its estimate, and count how many start within the range.

    \b
    Example: poolmgr bench estimates --data traces --seeds 1-5
    """
    from rich.table import Table

    from bench.policies.catalog import policy_of
    from bench.quality.calibration import COLUMNS, Claim, judged, rows_of
    from bench.quality.score import replay
    from bench.replay.state import ReplaySettings
    from bench.scenarios.catalog import build
    from bench.scenarios.workload import Ask
    from poolmgr.cli.simulate import parse_seeds
    from poolmgr.cli.tables import console_for

    claims: list[Claim] = []
    for seed in parse_seeds(seeds):
        policy, planners = judged(policy_of("poolmgr"))
        built = build(scenario, Ask(data, load, seed, split, days))
        replay(built, policy, ReplaySettings(tick_seconds=tick_seconds, flip_seconds=flip_seconds))
        claims += [claim for planner in planners for claim in planner.claims()]
    table = Table(title=f"{scenario} at load {load}, {split}, {days} day(s), seeds {seeds}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("who", "told when") else "right", no_wrap=True)
    for row in rows_of(claims):
        table.add_row(*row)
    console_for(table).print(table)
