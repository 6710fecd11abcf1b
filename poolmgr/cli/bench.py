"""`poolmgr bench`: how fast and how well the planner decides, by commands that anyone can repeat."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from poolmgr.cli.bench_disturbance import disturbance
from poolmgr.cli.bench_estimates import estimates
from poolmgr.cli.bench_hook import gpu, hook
from poolmgr.cli.bench_live import live
from poolmgr.cli.bench_move import move
from poolmgr.cli.bench_webhook import webhook
from poolmgr.domain.errors import PoolError

app = typer.Typer(add_completion=False, no_args_is_help=True)

REPORT = Path("docs/benchmarks.md")
Data = Annotated[
    Path | None, typer.Option(help="Folder with the traces; see docs/how-to/judge-on-your-traces.md.")
]
Out = Annotated[Path, typer.Option(help="The report; each benchmark rewrites only its own section.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, write no report.")]


EPILOG = """
Examples:

  poolmgr bench plan --help

  poolmgr bench scale --ticks 5

  poolmgr bench quality --data ~/traces --quick

  poolmgr bench hook --other HAMi-core=/usr/local/vgpu/libvgpu.so

  poolmgr bench all --data ~/traces
"""


@app.callback(epilog=EPILOG)
def bench() -> None:
    """Run the benchmarks. They need a checkout; see docs/benchmarks.md for what each one measures."""


app.command()(hook)
app.command()(gpu)
app.command()(estimates)
app.command()(disturbance)
app.command()(live)
app.command()(move)
app.command()(webhook)

SIZES = (625, 1_250, 2_500, 5_000)


@app.command("all")
def everything(
    data: Data = None,
    quick: Annotated[
        bool, typer.Option(help="One seed, one day, four policies: for CI, two minutes.")
    ] = False,
    out: Out = REPORT,
) -> None:
    """Run every benchmark but `hook` and `gpu`, and write the report. One whose dependencies are missing here is left
    out, with the reason.

    Without --data, only those that need no traces: speed, webhook, live, move."""
    scale(data=data, ticks=3 if quick else 20, out=out)
    live_options: dict[str, Any] = {"nodes": 20, "pods": 300} if quick else {}
    for name, benchmark in (
        ("webhook", partial(webhook, quick=quick, write=out)),
        ("live", partial(live, **live_options, quick=quick, write=out)),
        *(
            [] if quick else [("move", partial(move, write=out))]
        ),  # boots a node, which takes longer than all else
    ):
        try:
            benchmark()
        except PoolError as missing:
            typer.echo(f"left out: {name}, since {missing.message}", err=True)
    if data is None:
        return
    if quick:
        fgd(data=data, lists="default", policy="BestFit,FGD", seeds=1, out=out)
    else:
        fgd(data=data, out=out)
    quality(data=data, quick=quick, out=out)


@app.command()
def plan(
    nodes: Annotated[int, typer.Option(help="Nodes of the random cluster.", min=1)] = 5_000,
    gpus: Annotated[int, typer.Option(help="GPUs of each node.", min=1)] = 8,
    pods: Annotated[int, typer.Option(help="vGPU pods, running and waiting.", min=0)] = 150_000,
    ticks: Annotated[
        int, typer.Option(help="Decisions to time; a few workloads change between two.", min=1)
    ] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the cluster.")] = 1,
    fleet: Annotated[
        str,
        typer.Option(help="random, or the nodes of a trace: openb, spot (with --data; not --nodes, --gpus)."),
    ] = "random",
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time the planner on a random half-loaded cluster with pending VMs of 1, 2, 4 and 8 GPUs.

    plan_s covers one decision with a sentence for every GPU and every waiting workload; steps is the most GPUs
    that one decision moves."""
    from bench.scenarios.traces import read_openb_nodes, read_spot_nodes
    from bench.speed.planner import TRACE_MEMORY_MIB, even_shape, measure

    readers = {"openb": read_openb_nodes, "spot": read_spot_nodes}
    if fleet == "random":
        shape = even_shape(nodes, gpus)
    elif fleet not in readers:
        raise typer.BadParameter("choose random, openb or spot", param_hint="--fleet")
    elif data is None:
        raise typer.BadParameter("a fleet from a trace needs --data", param_hint="--fleet")
    else:
        shape = [(n.model, TRACE_MEMORY_MIB, n.gpus) for n in readers[fleet](data) if n.gpus]
    result = {"fleet": fleet, **measure(shape, pods=pods, ticks=ticks, seed=seed)}
    if as_json:
        print(json.dumps(result))
        return
    print(
        f"{result['nodes']:,} nodes, {result['gpus']:,} GPUs, {pods:,} pods: snapshot built in "
        f"{result['snapshot_build_s']:.2f} s; a decision takes {result['plan_s_p50']:.3f} s (p50), "
        f"{result['plan_s_max']:.3f} s (max) with every refusal explained; peak memory "
        f"{result['peak_rss_mb']:.0f} MB; {result['steps']} GPUs moved"
    )


@app.command()
def scale(
    data: Data = None,
    ticks: Annotated[int, typer.Option(help="Decisions to time for each fleet.", min=1)] = 20,
    out: Out = REPORT,
) -> None:
    """Four sizes up to 5,000 nodes of 8 GPUs, and with --data the fleets of openb and spot. Each in a process of its
    own, for its peak memory."""
    from bench.sections import measured_on, write_section
    from bench.tables import scale_table

    asked = [["--nodes", str(n), "--pods", str(n * 30)] for n in SIZES]
    if data is not None:
        asked += [
            ["--fleet", f, "--data", str(data), "--pods", p]
            for f, p in (("openb", "36390"), ("spot", "62460"))
        ]
    rows = []
    for options in asked:
        command = [
            sys.executable,
            "-m",
            "poolmgr.cli.main",
            "bench",
            "plan",
            "--json",
            "--ticks",
            str(ticks),
            *options,
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
        typer.echo(f"{rows[-1]['nodes']} nodes: {rows[-1]['plan_s_p50']:.3f} s", err=True)
    body = [
        "## Planner: speed",
        "",
        "    poolmgr bench scale --data DIR",
        "",
        "One decision with a sentence for every GPU and every waiting workload, on a random half-loaded cluster. From "
        "one decision to the next ten seconds pass and some pods are replaced by others, as where they live for an "
        "hour; what follows from nodes on which nothing changed is kept. The longest (max) is the first, which knows "
        "no node yet. CPU seconds beside wall seconds, as the machine did other work too. Each line is a process of "
        "its own.",
        "",
        *scale_table(rows),
        "",
        measured_on() + ".",
    ]
    write_section(out, "scale", "\n".join(body))
    typer.echo(f"wrote {out}: scale", err=True)


@app.command()
def fgd(
    data: Annotated[Path, typer.Option(help="Folder with the traces (openb/).")],
    lists: Annotated[
        str,
        typer.Option(help="Pod lists of openb, separated by commas; those that are not there are left out."),
    ] = "default,gpushare40,gpushare100,multigpu50,gpuspec33",
    policy: Annotated[str, typer.Option(help="Policies, separated by commas; default: all published.")] = "",
    seeds: Annotated[int, typer.Option(help="Seeds 0 to N-1.", min=1)] = 10,
    as_json: AsJson = False,
    out: Out = REPORT,
) -> None:
    """Reproduce FGD's published packing of openb (USENIX ATC 2023): GPUs allocated when what arrived is 100 % of them.

    The check that the simulator's placement is right: every figure within half a point."""
    from rich.console import Console
    from rich.progress import Progress

    from bench.packing.packing import PUBLISHED, allocated_at_capacity
    from bench.scenarios.traces import read_openb_nodes, read_pods
    from bench.sections import measured_on, write_section
    from bench.tables import fgd_table

    nodes = [node for node in read_openb_nodes(data) if node.gpus]
    names = [n for n in lists.split(",") if (data / "openb" / f"openb_pod_list_{n}.csv").exists()]
    wanted = [key for key in PUBLISHED if key[0] in names and (not policy or key[1] in policy.split(","))]
    if not wanted:
        raise typer.BadParameter(f"no published figure for {lists} under {policy or 'any policy'}")
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("packing", total=len(wanted) * seeds)
        for pods, name in wanted:
            runs = []
            for seed in range(seeds):
                progress.update(task, description=f"{pods} {name}")
                runs.append(allocated_at_capacity(nodes, read_pods(data, pods), name, seed)["allocated"])
                progress.advance(task)
            row = {"pods": pods, "policy": name, "allocated": sum(runs) / seeds, "seeds": seeds}
            rows.append({**row, "published": PUBLISHED[pods, name]})
            if as_json:
                print(json.dumps(rows[-1]), flush=True)
    if as_json:
        return
    worst = max(abs(row["allocated"] - row["published"]) for row in rows)
    body = [
        "## Simulator: FGD's published figures",
        "",
        "    poolmgr bench fgd --data DIR",
        "",
        "GPUs allocated, in per cent, when the pods that have arrived ask for all of them; means over the seeds. "
        "Published: the authors' expected results, ten seeds of their own.",
        "",
        *fgd_table(rows),
        "",
        f"Largest difference {worst:.2f} points. {measured_on()}.",
    ]
    write_section(out, "fgd", "\n".join(body))
    typer.echo("\n".join(fgd_table(rows)))


@app.command()
def quality(
    data: Annotated[Path, typer.Option(help="Folder with the traces.")],
    quick: Annotated[bool, typer.Option(help="S2 alone: one seed, one day, four policies.")] = False,
    policy: Annotated[
        str, typer.Option(help="Run only these policies; what the others gave is taken from the rows file.")
    ] = "",
    scenario: Annotated[str, typer.Option(help="Run only these scenarios, likewise.")] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what the rows file has from this version.")
    ] = False,
    out: Out = REPORT,
) -> None:
    """All scenarios under all policies with five seeds, on held-out weeks. The rows behind the tables are kept beside
    the report, in benchmarks/quality.jsonl."""
    from bench.quality.run import CASES, QUICK, run

    run(
        data,
        QUICK if quick else CASES,
        out,
        only_policies=tuple(p for p in policy.split(",") if p),
        only_scenarios=tuple(s for s in scenario.split(",") if s),
        keep_rows=not quick,
        resume=resume,
    )
    typer.echo(f"wrote {out}: quality, headline", err=True)
