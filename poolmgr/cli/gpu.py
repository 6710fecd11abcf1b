"""`poolmgr gpu`: the CUDA hook on a workstation, without Kubernetes; and GPUs of a cluster taken out of use (`quarantine`)."""

import os
import platform
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from poolmgr.cli.gpu_selftest import probe, sentence_of
from poolmgr.cli.quarantine import add_to
from poolmgr.cli.tables import console_for
from poolmgr.hookregion.layout import Region, decode_region
from poolmgr.hookregion.liveness import forget_if_unused, live_slots
from poolmgr.hookregion.reading import read_region
from poolmgr.kit.elf import HEADER_BYTES, why_not_loaded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Take GPUs of the cluster out of use and back (quarantine, release, forget), and share GPUs of a workstation "
    "with the CUDA hook, without Kubernetes (run, top, selftest).",
)
add_to(app)
SIZE = re.compile(r"^(\d+)(?:([KMGT])i?B?|B)?$", re.IGNORECASE)
SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        help="libvgpu.so to use; default: the wheel's, the system package's, what `make hook` has built.",
    ),
]
PLACES = (
    Path(__file__).resolve().parents[1] / "lib/libvgpu.so",  # in a wheel with the library (tools/packaging)
    Path("/usr/lib/poolmgr/libvgpu.so"),  # the deb or rpm
    Path("/usr/local/vgpu/libvgpu.so"),
    Path(__file__).resolve().parents[2] / "libhook/build/libvgpu.so",  # in a checkout
)
"""Where the hook is looked for, in this order."""


def refuse(sentence: str, code: int = 2) -> NoReturn:
    typer.secho(f"poolmgr: {sentence}", fg="red", err=True)
    raise typer.Exit(code)


def find_library(given: Path | None, places: Sequence[Path] = PLACES) -> Path:
    """The hook: as given, else the first of `places`. Exits with what to do if there is none, or if the dynamic linker
    would leave it out: programs would then run without limits."""
    library = next((place.resolve() for place in ([given] if given else places) if place.is_file()), None)
    if library is None:
        if given:
            refuse(f"there is no {given}.")
        refuse(
            f"no libvgpu.so is at {', '.join(map(str, places))}. Install the wheel or the package poolmgr-hook for this "
            "machine, build the hook in a checkout with `make hook`, or name it with --library."
        )
    with library.open("rb") as file:
        wrong = why_not_loaded(file.read(HEADER_BYTES), platform.machine())
    if wrong:
        refuse(f"{library} {wrong}.")
    if re.search(r"[\s:]", str(library)):
        refuse(
            f"LD_PRELOAD cannot name '{library}', which has a space or a colon: programs would run without any limit. "
            "Copy the library to another folder and name it with --library."
        )
    return library


def region_folder() -> Path:
    """Where regions of this user live; private to the user, so that nobody else can plant one."""
    folder = (
        Path(os.environ.get("XDG_RUNTIME_DIR") or Path(tempfile.gettempdir()) / f"poolmgr-{os.getuid()}")
        / "poolmgr-gpu"
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        refuse(f"{folder} cannot be made ({error.strerror}); set XDG_RUNTIME_DIR to a folder of your own.")
    if folder.stat().st_uid != os.getuid():
        refuse(f"{folder} belongs to another user; set XDG_RUNTIME_DIR to a folder of your own.")
    return folder


def parse_size(text: str) -> int:
    """Bytes of `3Gi`, `3000m`, `512MiB`; powers of 1024. Exits with what to write instead."""
    found = SIZE.match(text)
    if not found:
        refuse(f"--memory {text} is not a size; write a whole number with K, M, G or T, like 3Gi or 3000m.")
    size = int(found[1]) << SHIFTS[(found[2] or "").upper()]
    if size < 1 << 20:
        refuse(
            f"--memory {text} is less than a MiB; write it with a unit, like 3Gi, or leave it out for no limit."
        )
    return size


def hook_environment(library: Path, region: Path, memory: int | None, cores: int | None) -> dict[str, str]:
    """Variables that put a program under the hook. `memory` in bytes, `cores` in percent."""
    wanted = {
        "LD_PRELOAD": ":".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")])),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(region),
        "GPU_CORE_UTILIZATION_POLICY": "force",
    }
    if memory:
        wanted["CUDA_DEVICE_MEMORY_LIMIT"] = str(memory)
    if cores:
        wanted["CUDA_DEVICE_SM_LIMIT"] = str(cores)
    return wanted


def join_or_begin(region: Path, name: str, memory: int | None, cores: int | None) -> None:
    """Limits belong to the region: whoever joins takes them as they are, so other ones are refused."""
    try:
        if forget_if_unused(region):
            return
        decoded = decode_region(read_region(region))
    except (OSError, ValueError) as error:
        refuse(
            f"{region} exists but is not a region of the hook ({error}); remove it or choose another --name."
        )
    wanted = (memory or 0, cores if cores and cores < 100 else 0)
    for device in decoded.devices:
        if (device.memory_limit, device.core_limit) != wanted:
            has = f"{_memory(device.memory_limit)} of memory and {_percent(device.core_limit)} of GPU time"
            refuse(
                f"programs named {name} already run within {has}. Start this one with the same limits, under "
                "another --name, or when they have ended."
            )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    memory: Annotated[str | None, typer.Option(help="Memory of each GPU, e.g. 3Gi.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, max=100, help="Percent of each GPU's time.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Programs started with the same name share one limit.")
    ] = None,
    library: LibraryOption = None,
) -> None:
    """Run a program, and whatever it starts, within limits on each GPU.

    \b
    poolmgr gpu run --memory 3Gi --cores 30 -- python train.py
    poolmgr gpu run --name lab --memory 8Gi -- jupyter lab      (and again: both share the 8 GiB)
    poolmgr gpu run --memory 3Gi -- nvidia-smi                  (shows the smaller GPU)
    """
    if not context.args:
        refuse("name a program after --, e.g. `poolmgr gpu run --memory 3Gi -- python train.py`.")
    if name and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
        refuse("--name may hold letters, digits, dot, dash and underscore, and not begin with a dot.")
    size = parse_size(memory) if memory else None
    if not size and not cores:
        typer.secho(
            "poolmgr: neither --memory nor --cores is given: nothing is limited, `poolmgr gpu top` shows the use.",
            fg="yellow",
            err=True,
        )
    folder = region_folder()
    for old in folder.glob("*.cache"):
        forget_if_unused(old)
    region = folder / f"{name or os.getpid()}.cache"
    join_or_begin(region, name or str(os.getpid()), size, cores)
    environment = {**os.environ, **hook_environment(find_library(library), region, size, cores)}
    try:
        os.execvpe(context.args[0], context.args, environment)
    except OSError as error:
        refuse(f"{context.args[0]} cannot be started: {error.strerror}.", 127)


def read_regions(paths: list[Path]) -> dict[str, tuple[Region, frozenset[int]] | str]:
    """Name → region and its living slots, or the sentence why it is none."""
    found: dict[str, tuple[Region, frozenset[int]] | str] = {}
    for path in sorted(paths):
        try:
            found[path.stem] = (decode_region(read_region(path)), live_slots(path))
        except OSError as error:
            found[path.stem] = f"{path} cannot be read: {error.strerror}"
        except ValueError as error:
            found[path.stem] = f"{path} is not a region of the hook: {error}"
    return found


def _memory(limit: int) -> str:
    return f"{limit >> 20} MiB" if limit else "no limit"


def _percent(limit: int) -> str:
    return f"{limit} %" if limit else "no limit"


def usage_table(regions: dict[str, tuple[Region, frozenset[int]] | str]) -> Table:
    """A line for each living process and GPU."""
    table = Table("Name", "GPU", "PID", "Memory", "of", "GPU time", "of", "", box=None, pad_edge=False)
    for name, found in regions.items():
        if isinstance(found, str):
            continue
        region, living = found
        for process in region.processes:
            if process.slot not in living:
                continue
            for device in region.devices:
                table.add_row(
                    name,
                    str(device.index),
                    str(process.pid),
                    f"{process.used[device.index] >> 20} MiB",
                    _memory(device.memory_limit),
                    f"{process.busy[device.index]} %",
                    _percent(device.core_limit),
                    "stopped by the monitor" if region.blocked else "",
                )
    return table


@app.command()
def top(
    region: Annotated[
        list[Path] | None, typer.Argument(help="Region files; default: those of `poolmgr gpu run`.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Every second, until Ctrl-C.")] = False,
) -> None:
    """Show who uses how much of which GPU.

    \b
    poolmgr gpu top
    poolmgr gpu top --watch
    poolmgr gpu top /usr/local/vgpu/containers/*/*.cache        (on a node with HAMi: its containers)
    """
    console = Console()
    while True:
        regions = read_regions(region or list(region_folder().glob("*.cache")))
        table = usage_table(regions)
        if watch:
            console.clear()
        if table.row_count:
            console_for(table).print(table)
        elif not any(isinstance(found, str) for found in regions.values()):
            console.print("No program uses a GPU through the hook. Start something with `poolmgr gpu run`.")
        complaints = [found for found in regions.values() if isinstance(found, str)]
        for complaint in complaints:
            typer.secho(f"poolmgr: {complaint}", fg="red", err=True)
        if not watch:
            raise typer.Exit(1 if complaints else 0)
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            return


@app.command()
def selftest(library: LibraryOption = None) -> None:
    """Check whether limits are in force here, and say so in a sentence; exits 1 if they are not.

    Run it inside the container, or within `gpu run`. With --library it says whether that hook would hold a limit here.

    \b
    kubectl exec POD -- poolmgr gpu selftest
    poolmgr gpu run --memory 256Mi -- poolmgr gpu selftest
    poolmgr gpu selftest --library libhook/build/libvgpu.so
    """
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        if library:
            region = Path(folder) / "selftest.cache"
            environment |= hook_environment(find_library(library), region, 256 << 20, None)
        in_force, sentence = sentence_of(probe(environment))
    typer.echo(sentence)
    if not in_force:
        raise typer.Exit(1)
