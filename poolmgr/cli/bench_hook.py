"""`poolmgr bench hook` and `poolmgr bench gpu`: libhook beside other builds of libvgpu.so."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

if TYPE_CHECKING:
    from bench.hook.bed import Bed
    from bench.hook.containers import Arm
    from bench.hook.rows import Row

BUILD = Path(__file__).resolve().parents[2] / "libhook/build"

Other = Annotated[
    list[str] | None,
    typer.Option(help="Another libvgpu.so to run beside ours: PATH or NAME=PATH; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quick = Annotated[bool, typer.Option(help="Two limits, three repetitions: a minute or two.")]
Write = Annotated[
    Path | None, typer.Option(help="Put the table into its section of this page, e.g. docs/benchmarks.md.")
]
Build = Annotated[Path, typer.Option(help="Where libhook, its fake driver and test programs are built.")]


def hook(
    other: Other = None,
    as_json: AsJson = False,
    quick: Quick = False,
    write: Write = None,
    build: Build = BUILD,
) -> None:
    """Compare libhook with no hook and with other hooks: the same programs, one run, on the fake driver.

    An arm whose limits do not hold a program back is named and left out, not timed.

    Example: poolmgr bench hook --other HAMi-core=/usr/local/vgpu/libvgpu.so --write docs/benchmarks.md
    """
    from bench.hook.bed import Bed, find_build

    others = other or []
    head = [
        "## libhook beside other hooks",
        "",
        f"    poolmgr bench hook {' '.join(f'--other {text!r}' for text in _without_paths(others))}".rstrip(),
        "",
        f"{machine()} On the fake driver, **not on a real GPU**: what a launch, NVML or a context costs there is "
        "left out, on both sides. Every arm runs the same programs in the same run and is first shown to hold its "
        "limits. Calls: what the hook adds to them, medians. Share errors: points of GPU time, by the fake "
        "machine's own count, on its virtual clock. Smaller is better everywhere.",
    ]
    compare(Bed(find_build(build)), others, head, "hook", as_json=as_json, quick=quick, write=write)


def gpu(
    other: Other = None,
    as_json: AsJson = False,
    quick: Quick = False,
    write: Write = None,
    build: Build = BUILD,
) -> None:
    """Compare libhook with other hooks on a real GPU, tenants side by side; PyTorch programs where it can be imported.

    Without a GPU the plan runs on the fake driver, quickly, to show that it works; nothing is written then.

    Example: poolmgr bench gpu --other HAMi-core=/usr/local/vgpu/libvgpu.so --write docs/benchmarks.md
    """
    from bench.hook.bed import Bed, RealGpu, find_build, find_gpu

    folder, found = find_build(build), find_gpu()
    if isinstance(found, RealGpu):
        bed, where = Bed(folder, found), found.sentence()
    else:
        typer.secho(
            f"poolmgr: NOT RUN ON A GPU: {found}. The plan runs on the fake driver to show that it works; "
            "its figures say nothing about a GPU and are not written anywhere.",
            fg="yellow",
            err=True,
        )
        bed, where, quick, write = Bed(folder), "**NOT RUN ON A GPU**: the fake driver.", True, None
    head = [
        "## libhook on a real GPU" if bed.gpu else "## libhook: the plan for a real GPU, on the fake driver",
        "",
        "    make gpu",
        "",
        f"{where} {machine()} Every arm runs the same programs in the same run and is first shown to hold its "
        "limits. Calls: what the hook adds to them, medians. Share errors: points, of what the same program does "
        "without a hook. Smaller is better everywhere.",
    ]
    compare(bed, other or [], head, "gpu", as_json=as_json, quick=quick, write=write)


def compare(
    bed: "Bed",
    others: Sequence[str],
    head: Sequence[str],
    section: str,
    *,
    as_json: bool,
    quick: bool,
    write: Path | None,
) -> None:
    """Proves that each arm holds its limits, measures, prints, and writes the section where asked. Each row is told
    as soon as it is there: on a rented GPU a run may be ended before its table."""
    from bench.hook.containers import Arm
    from bench.hook.report import OURS, figures, markdown
    from bench.hook.rows import limits_not_in_force
    from poolmgr.kit.marked_section import replace_section

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no program outlives the run
    wanted = [Arm(OURS, bed.build / "libvgpu.so"), *map(named, others)]
    refused: dict[str, str] = {}
    for arm in wanted:
        if (seen := limits_not_in_force(bed, arm)) is not None:
            refused[arm.name] = seen
            typer.secho(f"poolmgr: {arm.name} is left out: {seen}.", fg="yellow", err=True)
    arms = [Arm("no hook", None), *(arm for arm in wanted if arm.name not in refused)]
    rows: list[Row] = []
    for row in _rows(bed, arms, section, quick=quick):
        rows.append(row)
        tell(figures(row))
    lines = markdown(rows, [arm.name for arm in arms], refused, head)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "left_out": refused}))
    else:
        print("\n".join(lines))
    if write is not None:
        page = write.read_text(encoding="utf-8") if write.exists() else "# Benchmarks\n"
        write.write_text(replace_section(page, section, "\n".join(lines)), encoding="utf-8")
    if OURS in refused:
        raise typer.Exit(1)


def _rows(bed: "Bed", arms: "list[Arm]", section: str, *, quick: bool) -> "Iterator[Row]":
    from bench.hook.gpu_rows import tenant_rows, torch_rows
    from bench.hook.rows import Measure

    yield from Measure(bed, arms, quick=quick, tell=tell).rows()
    if section == "gpu":
        seconds = 8 if bed.gpu else 10
        tell("tenants side by side")
        yield from tenant_rows(bed, arms, seconds)
        if bed.gpu is not None:
            tell("PyTorch")
            yield from torch_rows(bed, arms, seconds)


def tell(what: str) -> None:
    print(f"· {what}", file=sys.stderr)


def _without_paths(others: Sequence[str]) -> list[str]:
    return [f"{named(text).name}=PATH" for text in others]


def named(text: str) -> "Arm":
    """`NAME=PATH` or `PATH`, which is named by its folder. Raises Rejected."""
    from bench.hook.containers import Arm

    name, equals, path = text.partition("=")
    file = Path(path if equals else text)
    if not file.is_file():
        raise Rejected(Reason.INVALID_REQUEST, f"--other {text}: there is no file {file}")
    return Arm(name if equals else file.resolve().parent.name, file.resolve())


def machine() -> str:
    """Where it is measured, in a sentence; call it before the run."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} from other work when the run began."
