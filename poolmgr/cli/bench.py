"""`poolmgr bench`: how fast and how well the planner decides, by commands that anyone can repeat."""

import json
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Run the benchmarks."""


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
