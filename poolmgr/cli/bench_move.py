"""`poolmgr bench move`: a GPU's move by the agent beside the same writes by a bare shell loop."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from poolmgr.cli.bench_hook import machine, tell


def move(
    rounds: Annotated[int, typer.Option(help="Turns of five moves there and back each.", min=1)] = 4,
    quick: Annotated[bool, typer.Option(help="One turn: only shows that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every move.")] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Put the table into its section of this page, e.g. docs/benchmarks.md."),
    ] = None,
) -> None:
    """Move a GPU of the emulated node to passthrough and back, by the agent's code and by a shell loop.

    Needs this project's checkout and QEMU (`tools/packages.sh node`). The kernel and its writes are real, the CPU is
    emulated, so compare the two ways and not their seconds with those of a real node. About ten minutes on two cores.

    \b
    Example: poolmgr bench move --write docs/benchmarks.md
    """
    from bench.move.report import DIRECTIONS, markdown
    from bench.move.run import compare_on_own_node, medians
    from bench.sections import measured_on
    from poolmgr.kit.marked_section import replace_section

    where = machine()
    found = compare_on_own_node(1 if quick else rounds, tell)
    if as_json:
        print(json.dumps({name: [asdict(each) for each in moves] for name, moves in found.items()}))
        return
    agent, shell = ({to: medians(found[name], to) for to in DIRECTIONS} for name in ("agent", "shell"))
    head = [
        "## A move on the node",
        "",
        "    poolmgr bench move",
        "",
        f"{where} In the emulated node: a real kernel and its real writes, on an emulated CPU. The agent's code with all of "
        "its checks, in a process that has run for a while as an agent has, beside a shell that makes the same writes and "
        "nothing else; without drain, kubelet and API server. The GPU is QEMU's `bochs-display`: to leave its driver and "
        f"come back takes NVIDIA's GPUs seconds. Medians of {len(found['agent']) // 2} moves each way, in turns.",
    ]
    lines = [*markdown(agent, shell, head), "", f"{measured_on()}."]
    print("\n".join(lines))
    if write is not None:
        page = write.read_text(encoding="utf-8") if write.exists() else "# Benchmarks\n"
        write.write_text(replace_section(page, "move", "\n".join(lines)), encoding="utf-8")
