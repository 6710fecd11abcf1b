"""`poolmgr bench`: how fast and how well the planner decides, by commands that anyone can repeat."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Run the benchmarks."""


SIZES = (625, 1_250, 2_500, 5_000)
QUALITY = (("S2", 0.96), ("S2", 0.68), ("S1", 0.9), ("S3", 0.9), ("S5", 0.9), ("S6", 0.9), ("S8", 0.96))
POLICIES = ("poolmgr", "B0-vm", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10", "B11")


@app.command("all")
def everything(
    data: Annotated[Path | None, typer.Option(help="Folder with the traces; without it, speed only.")] = None,
    quick: Annotated[bool, typer.Option(help="One seed, two days, four policies: for CI.")] = False,
    out: Annotated[Path, typer.Option(help="The report to write.")] = Path("docs/benchmarks-run.md"),
) -> None:
    """Run everything and write a report. Each size runs in a process of its own, for its peak memory."""
    from rich.progress import Progress

    from poolmgr.sim.policies import policy_of
    from poolmgr.sim.replay_state import ReplaySettings
    from poolmgr.sim.report import quality_table, scale_table
    from poolmgr.sim.scenarios import Ask, build
    from poolmgr.sim.score import score

    days, seeds = (2, (1,)) if quick else (7, (1, 2, 3, 4, 5))
    names = ("poolmgr", "B4", "B5", "B6") if quick else POLICIES
    for name in names:
        if name != "B1":
            policy_of(name)
    cases = () if data is None else QUALITY[:1] if quick else QUALITY
    rows: list[dict[str, Any]] = []
    sizes: list[dict[str, Any]] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("sizes", total=len(SIZES) + len(cases) * len(seeds) * len(names))
        for nodes in SIZES:
            progress.update(task, description=f"{nodes} nodes")
            sizes.append(_measure_apart(nodes, 3 if quick else 20))
            progress.advance(task)
        for scenario, load in cases:
            for seed in seeds:
                built = build(scenario, Ask(data or Path(), load, seed, "held-out", days))
                for name in names:
                    progress.update(task, description=f"{scenario} {load} seed {seed} {name}")
                    rows.append(score(built, name, ReplaySettings(tick_seconds=30.0)))
                    progress.advance(task)
    lines = ["# Benchmark run", "", "Speed: one decision, every refusal explained.", "", *scale_table(sizes)]
    if rows:
        lines += [
            "",
            f"Quality: held-out weeks, {days} days, median (worst) of the seeds.",
            "",
            *quality_table(rows),
        ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo(f"wrote {out}")


def _measure_apart(nodes: int, ticks: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "poolmgr.cli.main", "bench", "plan", "--json", "--nodes", str(nodes)]
    command += ["--pods", str(nodes * 30), "--ticks", str(ticks)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@app.command()
def plan(
    nodes: Annotated[int, typer.Option(help="Nodes of the random cluster.")] = 5_000,
    gpus: Annotated[int, typer.Option(help="GPUs of each node.")] = 8,
    pods: Annotated[int, typer.Option(help="vGPU pods, running and waiting.")] = 150_000,
    ticks: Annotated[int, typer.Option(help="Decisions to time; a few workloads change between two.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the cluster.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time the planner on a random half-loaded cluster with pending VMs of 1, 2, 4 and 8 GPUs."""
    from poolmgr.sim.scale import measure

    result = measure(nodes=nodes, gpus=gpus, pods=pods, ticks=ticks, seed=seed)
    if as_json:
        print(json.dumps(result))
        return
    print(
        f"{nodes:,} nodes × {gpus} GPUs, {pods:,} pods: snapshot built in {result['snapshot_build_s']:.2f} s; "
        f"a decision takes {result['plan_s_p50']:.3f} s (p50), {result['plan_s_max']:.3f} s (max) with every "
        f"refusal explained; peak memory {result['peak_rss_mb']:.0f} MB; {result['steps']} GPUs moved"
    )
