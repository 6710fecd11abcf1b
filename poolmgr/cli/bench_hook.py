"""`poolmgr bench hook`: libhook beside other builds of libvgpu.so on the fake driver."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

if TYPE_CHECKING:
    from poolmgr.hookbench.containers import Arm

BUILD = Path(__file__).resolve().parents[2] / "libhook/build"


def hook(
    other: Annotated[
        list[str] | None,
        typer.Option(help="Another libvgpu.so to run beside ours: PATH or NAME=PATH; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option(help="Two limits, three repetitions: about a minute.")] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Put the table into its section of this page, e.g. docs/benchmarks.md."),
    ] = None,
    build: Annotated[
        Path, typer.Option(help="Where libhook, its fake driver and victims are built.")
    ] = BUILD,
) -> None:
    """Compare libhook with no hook and with other hooks: the same programs, one run, on the fake driver.

    An arm whose limits do not hold a program back is named and left out, not timed.

    Example: poolmgr bench hook --other HAMi-core=/usr/local/vgpu/libvgpu.so --write docs/benchmarks.md
    """
    from poolmgr.hookbench.containers import Arm, find_build
    from poolmgr.hookbench.report import OURS, markdown
    from poolmgr.hookbench.rows import Measure, limits_not_in_force
    from poolmgr.kit.marked_section import replace_section

    folder = find_build(build)
    wanted = [Arm(OURS, folder / "libvgpu.so"), *map(named, other or [])]
    refused: dict[str, str] = {}
    for arm in wanted:
        if (seen := limits_not_in_force(folder, arm)) is not None:
            refused[arm.name] = seen
            typer.secho(f"poolmgr: {arm.name} is left out: {seen}.", fg="yellow", err=True)
    arms = [Arm("no hook", None), *(arm for arm in wanted if arm.name not in refused)]
    where = machine()
    measure = Measure(folder, arms, quick=quick, tell=lambda what: print(f"· {what}", file=sys.stderr))
    rows = list(measure.rows())
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "left_out": refused}))
    lines = markdown(rows, [arm.name for arm in arms], refused, where)
    if not as_json:
        print("\n".join(lines))
    if write is not None:
        page = write.read_text(encoding="utf-8") if write.exists() else "# Benchmarks\n"
        write.write_text(replace_section(page, "hook", "\n".join(lines)), encoding="utf-8")
    if OURS in refused:
        raise typer.Exit(1)


def named(text: str) -> "Arm":
    """`NAME=PATH` or `PATH`, which is named by its folder. Raises Rejected."""
    from poolmgr.hookbench.containers import Arm

    name, equals, path = text.partition("=")
    file = Path(path if equals else text)
    if not file.is_file():
        raise Rejected(Reason.INVALID_REQUEST, f"--other {text}: there is no file {file}")
    return Arm(name if equals else file.resolve().parent.name, file.resolve())


def machine() -> str:
    """Where it is measured, in a sentence; call it before the run."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f} from other work when the run began."
