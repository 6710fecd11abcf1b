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
            raise typer.BadParameter(f"{part!r} is no seed; write 3, 1-5 or 1,4,7-9", param_hint="--seeds")
        seeds.extend(range(int(first), int(last or first) + 1))
    return seeds


@app.command()
def simulate(
    data: Annotated[Path, typer.Option(help="Folder with the traces (uncg-desktops/, openb/, …).")],
    scenario: Annotated[
        str, typer.Option(help="S1, S2, S3, S5, S6 or S8; see docs/explanation/planning.md.")
    ] = "S2",
    load: Annotated[float, typer.Option(help="Offered GPUs / GPUs, VMs and pods together.")] = 0.96,
    policy: Annotated[str, typer.Option(help="Policies, separated by commas.")] = "poolmgr,B5,B4",
    seeds: Annotated[str, typer.Option(help="Which seeds, e.g. 1-5; a seed picks week and shifts.")] = "1",
    flip_seconds: Annotated[float, typer.Option(help="How long one move takes once a GPU is empty.")] = 60.0,
    days: Annotated[int, typer.Option(help="Length of the measured window.")] = 7,
    tick_seconds: Annotated[float, typer.Option(help="How often a planner looks.")] = 15.0,
    split: Annotated[
        str, typer.Option(help="Weeks to draw from: develop (first half of the file), held-out, all.")
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, nothing else.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture (.png or .svg) of the comparison.")
    ] = None,
) -> None:
    """Replay SCENARIO under each policy and seed. Figures are shares of GPUs × time unless named otherwise."""
    from rich.progress import Progress

    from poolmgr.sim.policies import policy_of
    from poolmgr.sim.replay_state import ReplaySettings
    from poolmgr.sim.scenarios import Ask, build
    from poolmgr.sim.score import score

    if split not in ("develop", "held-out", "all"):
        raise typer.BadParameter("choose develop, held-out or all", param_hint="--split")
    names = [name.strip() for name in policy.split(",") if name.strip()]
    for name in names:
        if name != "B1":
            policy_of(name)
    settings = ReplaySettings(flip_seconds=flip_seconds, tick_seconds=tick_seconds)
    numbers = parse_seeds(seeds)
    rows: list[dict[str, Any]] = []
    with Progress(transient=True, disable=as_json) as progress:
        task = progress.add_task("replaying", total=len(numbers) * len(names))
        for seed in numbers:
            built = build(scenario, Ask(data, load, seed, split, days))
            for name in names:
                progress.update(task, description=f"{scenario} seed {seed} {name}")
                row = score(built, name, settings)
                rows.append(row)
                if as_json:
                    print(json.dumps(row), flush=True)
                progress.advance(task)
    if not as_json:
        _print_table(rows, scenario, load)
    if plot is not None:
        from poolmgr.sim.plots import plot_comparison

        plot_comparison(rows, plot)
        typer.echo(f"wrote {plot}", err=True)


def _print_table(rows: list[dict[str, Any]], scenario: str, load: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{scenario} at load {load}: {rows[0]['gpus']} GPUs, flips of {rows[0]['flip_seconds']:.0f} s"
    )
    for title, _, _ in COLUMNS:
        table.add_column(title, justify="left" if title == "policy" else "right")
    for row in rows:
        shown = {**row, "_ratio": row["goodput"] / row["bound"]}
        table.add_row(*(form.format(shown[key]) for _, key, form in COLUMNS))
    console = Console()
    console.print(table)
    for seed in dict.fromkeys(row["seed"] for row in rows):
        first = next(row for row in rows if row["seed"] == seed)
        console.print(f"seed {seed}: {first['note']}; no policy could exceed goodput {first['bound']:.3f}")


if __name__ == "__main__":
    app()
