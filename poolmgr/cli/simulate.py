"""`poolmgr simulate`: replay a demand trace under several policies and compare what people would have seen."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)

COLUMNS = (
    ("policy", "policy", "{}"),
    ("seed", "seed", "{}"),
    ("VM served", "vm_served", "{:.4f}"),
    ("≤ 60 s", "vm_within_60s", "{:.3f}"),
    ("p99 wait s", "vm_wait_p99_s", "{:.0f}"),
    ("goodput", "goodput", "{:.3f}"),
    ("of bound", "_ratio", "{:.3f}"),
    ("allocated", "allocation", "{:.3f}"),
    ("flips/GPU/day", "flips_per_gpu_day", "{:.2f}"),
    ("evictions", "evictions", "{}"),
    ("lost GPU-h", "evicted_gpu_hours", "{:.0f}"),
    ("pod wait p90 s", "pod_wait_p90_s", "{:.0f}"),
    ("plan ms", "plan_ms_p50", "{:.1f}"),
)


def parse_seeds(text: str) -> list[int]:
    """`1-5`, `3`, `1,4,7-9`."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdigit() or (dash and not last.strip().isdigit()):
            raise typer.BadParameter(f"{part!r} is not a seed; write 3, 1-5 or 1,4,7-9", param_hint="--seeds")
        seeds.extend(range(int(first), int(last or first) + 1))
    return seeds


EPILOG = """
Examples:

  poolmgr simulate --data traces --scenario S2 --load 0.96 --policy poolmgr,B5,B4 --seeds 1-5

  poolmgr simulate --data traces --split held-out --seeds 1-5 --json > held-out.jsonl

  poolmgr simulate --data traces --week 17 --flip-seconds 300 --plot plots

  poolmgr simulate --list
"""


@app.command(epilog=EPILOG)
def simulate(
    data: Annotated[
        Path | None, typer.Option(help="Folder with the traces (uncg-desktops/, openb/, …).")
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="S1 to S8, or H for three desktops a card; see --list.")
    ] = "S2",
    load: Annotated[float, typer.Option(help="Offered GPUs / GPUs, VMs and pods together.", min=0.01)] = 0.96,
    policy: Annotated[str, typer.Option(help="Policies, separated by commas; see --list.")] = "poolmgr,B5,B4",
    seeds: Annotated[str, typer.Option(help="Which seeds, e.g. 1-5; a seed picks week and shifts.")] = "1",
    flip_seconds: Annotated[
        float, typer.Option(help="How long one move takes once a GPU is empty.", min=0.0)
    ] = 60.0,
    failures: Annotated[
        float,
        typer.Option(
            help="Chance that a GPU fails to change driver and is quarantined for four hours.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.0,
    outages: Annotated[
        float,
        typer.Option(help="How many times a day each node is down for half an hour.", min=0.0),
    ] = 0.0,
    days: Annotated[int, typer.Option(help="Length of the measured window.", min=1)] = 7,
    tick_seconds: Annotated[float, typer.Option(help="Seconds between two plans.", min=1.0)] = 15.0,
    split: Annotated[
        str,
        typer.Option(help="Weeks to draw from: develop (first half of the sessions' time), held-out, all."),
    ] = "all",
    week: Annotated[
        int | None, typer.Option(help="This week of the sessions, counted from 0, instead of a drawn one.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(help="Which pods of openb are VMs: desktop (none), strict (several or whole GPUs)."),
    ] = "desktop",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture: FILE.png, FILE.svg, or a folder for both.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List scenarios and policies.")] = False,
) -> None:
    """Replay a scenario under each policy and seed. Figures are shares of GPUs × time unless named otherwise."""
    from rich.console import Console
    from rich.progress import Progress

    from bench.policies.catalog import policy_of
    from bench.quality.score import score
    from bench.replay.state import ReplaySettings
    from bench.scenarios.catalog import build
    from bench.scenarios.workload import RULES, Ask

    if listing:
        _list()
        return
    if data is None:
        raise typer.BadParameter("name the folder that holds the traces", param_hint="--data")
    if split not in ("develop", "held-out", "all"):
        raise typer.BadParameter("choose develop, held-out or all", param_hint="--split")
    if rule not in RULES:
        raise typer.BadParameter(f"choose {' or '.join(RULES)}", param_hint="--rule")
    names = [name.strip() for name in policy.split(",") if name.strip()]
    for name in names:
        if name != "B1":
            policy_of(name)
    settings = ReplaySettings(
        flip_seconds=flip_seconds, tick_seconds=tick_seconds, failures=failures, outages=outages
    )
    numbers = parse_seeds(seeds)
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=len(numbers) * len(names))
        for seed in numbers:
            built = build(scenario, Ask(data, load, seed, split, days, week, rule))
            for name in names:
                progress.update(task, description=f"{scenario} seed {seed} {name}")
                rows.append(score(built, name, settings, split if week is None else f"week {week}"))
                if as_json:
                    print(json.dumps(rows[-1]), flush=True)
                progress.advance(task)
    if not as_json:
        _print_table(rows, scenario, load)
    if plot is not None:
        from bench.quality.plots import plot_comparison

        for path in pictures(plot, scenario):
            plot_comparison(rows, path)
            typer.echo(f"wrote {path}", err=True)


def pictures(wanted: Path, name: str) -> list[Path]:
    """The file asked for, or a PNG and an SVG in a folder that is made where there is none."""
    if wanted.suffix in (".png", ".svg"):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        return [wanted]
    if wanted.suffix:
        raise typer.BadParameter("write FILE.png, FILE.svg or a folder", param_hint="--plot")
    wanted.mkdir(parents=True, exist_ok=True)
    return [wanted / f"{name}.{kind}" for kind in ("png", "svg")]


def _list() -> None:
    from bench.policies.catalog import POLICIES
    from bench.scenarios.catalog import SCENARIOS

    for name, maker in SCENARIOS.items():
        said = " ".join((maker.__doc__ or "").split()).removeprefix(f"{name}: ").split(". ")[0]
        print(f"{name:<16} {said}")
    print()
    for policy in POLICIES.values():
        print(f"{policy.name:<16} {policy.note}")
    print(f"{'B1':<16} the best fixed split, known in hindsight")


def _print_table(rows: list[dict[str, Any]], scenario: str, load: float) -> None:
    from rich.table import Table

    from poolmgr.cli.tables import console_for

    table = Table(
        title=f"{scenario} at load {load}: {rows[0]['gpus']} GPUs, flips of {rows[0]['flip_seconds']:.0f} s"
    )
    for title, _, _ in COLUMNS:
        table.add_column(title, justify="left" if title == "policy" else "right", no_wrap=True)
    for row in rows:
        shown = {**row, "_ratio": row["goodput"] / row["bound"] if row["bound"] else 1.0}
        table.add_row(*(form.format(shown[key]) for _, key, form in COLUMNS))
    console = console_for(table)
    console.print(table)
    for seed in dict.fromkeys(row["seed"] for row in rows):
        first = next(row for row in rows if row["seed"] == seed)
        console.print(f"seed {seed}: {first['note']}; no policy could exceed goodput {first['bound']:.3f}")


if __name__ == "__main__":
    app()
