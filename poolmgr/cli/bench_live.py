"""`poolmgr bench live`: the manager as a process on a real API server with a large fleet."""

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from poolmgr.cli.bench_hook import tell
from poolmgr.cli.checkouts import CHECKOUT, named_checkout

Other = Annotated[
    list[str] | None,
    typer.Option(
        help="Another checkout to measure beside this one, on the same API server: NAME=PATH; may be repeated."
    ),
]


def live(
    nodes: Annotated[int, typer.Option(help="Nodes.", min=1)] = 2_000,
    gpus: Annotated[int, typer.Option(help="GPUs of each node.", min=4)] = 8,
    pods: Annotated[int, typer.Option(help="Pods, those of VMs included.", min=1)] = 24_000,
    rate: Annotated[float, typer.Option(help="Changes a second.", min=0.1)] = 40.0,
    vms: Annotated[int, typer.Option(help="VMs to time.", min=1)] = 60,
    rounds: Annotated[int, typer.Option(help="How often each call is timed.", min=1)] = 25,
    other: Other = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a filled etcd: used if it is there, made if not. Saves minutes on repeats."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="A few seconds for each phase: only shows that it works.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with every sample.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Put the table into its section of this page, e.g. docs/benchmarks.md."),
    ] = None,
) -> None:
    """Measure the manager on a real API server: start, memory, CPU, VM to move, page and API calls.

    Needs this project's checkout, since etcd and the API server come from e2e/controlplane, which builds them
    (15 minutes, once). About 8 minutes for each checkout at 2,000 nodes, 4 of them once to fill the API server.

    \b
    Example: poolmgr bench live --write docs/benchmarks.md
    Example: poolmgr bench live --nodes 100 --pods 1200 --quick
    Example: git worktree add /tmp/before main~20; poolmgr bench live --other before=/tmp/before
    """
    from bench.live.fleet import Size
    from bench.live.manager import Arm
    from bench.live.report import markdown
    from bench.live.run import QUICK, Schedule
    from bench.live.session import compare
    from bench.sections import measured_on
    from poolmgr.kit.marked_section import replace_section

    size = Size(nodes, gpus, pods)
    try:
        size.check()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    schedule = replace(QUICK if quick else replace(Schedule(), vms=vms, rounds=rounds), rate=rate)
    arms = [Arm("poolmgr", CHECKOUT)]
    arms += [Arm(*named_checkout(text)) for text in other or []]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no process outlives the run
    figures = compare(arms, size, schedule, keep, tell)
    lines = markdown(figures, size, schedule, measured_on())
    if as_json:
        print(json.dumps({name: asdict(found) for name, found in figures.items()}))
    else:
        print("\n".join(lines))
    if write is not None:
        page = write.read_text(encoding="utf-8") if write.exists() else "# Benchmarks\n"
        write.write_text(replace_section(page, "live", "\n".join(lines)), encoding="utf-8")
