"""`poolmgr gpu`: the CUDA hook on a workstation, without Kubernetes."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from poolmgr.hookregion.layout import Region, decode_region

app = typer.Typer(
    no_args_is_help=True, help="Share GPUs of a workstation with the CUDA hook, without Kubernetes."
)
SIZE = re.compile(r"^(\d+)(?:([KMGT])i?B?)?$", re.IGNORECASE)
LibraryOption = Annotated[
    Path | None,
    typer.Option("--library", help="libvgpu.so to use; default: /usr/local/vgpu, then libhook/build."),
]


def find_library(given: Path | None) -> Path:
    """The hook: as given, as installed, or as built in this checkout. Exits with what to do if there is none."""
    built = Path(__file__).resolve().parents[2] / "libhook/build/libvgpu.so"
    for place in [given] if given else [Path("/usr/local/vgpu/libvgpu.so"), built]:
        if place.is_file():
            return place.resolve()
    typer.secho(
        "poolmgr: no libvgpu.so found. Build it with `make hook`, or name it with --library.",
        fg="red",
        err=True,
    )
    raise typer.Exit(2)


def region_folder() -> Path:
    """Where regions of this user live; private to the user, so that nobody else can plant one."""
    folder = (
        Path(os.environ.get("XDG_RUNTIME_DIR") or Path(tempfile.gettempdir()) / f"poolmgr-{os.getuid()}")
        / "poolmgr-gpu"
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        typer.secho(
            f"poolmgr: {folder} belongs to somebody else; set XDG_RUNTIME_DIR to a folder of yours.",
            fg="red",
            err=True,
        )
        raise typer.Exit(2)
    return folder


def hook_environment(library: Path, region: Path, memory: str | None, cores: int | None) -> dict[str, str]:
    """Variables that put a program under the hook."""
    wanted = {
        "LD_PRELOAD": ":".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")])),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(region),
        "GPU_CORE_UTILIZATION_POLICY": "force",
    }
    if memory:
        wanted["CUDA_DEVICE_MEMORY_LIMIT"] = memory
    if cores:
        wanted["CUDA_DEVICE_SM_LIMIT"] = str(cores)
    return wanted


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    memory: Annotated[str | None, typer.Option(help="Memory of each GPU, e.g. 3Gi.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, max=100, help="Percent of each GPU's time.")] = None,
    name: Annotated[str | None, typer.Option(help="Programs started with one name share one limit.")] = None,
    library: LibraryOption = None,
) -> None:
    """Run a program within limits: poolmgr gpu run --memory 3Gi --cores 30 -- python train.py"""
    if not context.args:
        typer.secho(
            "poolmgr: name a program after --, e.g. `poolmgr gpu run --memory 3Gi -- python train.py`.",
            fg="red",
            err=True,
        )
        raise typer.Exit(2)
    if memory and not SIZE.match(memory):
        typer.secho(
            f"poolmgr: --memory {memory} is not a size; write it like 3Gi or 3000m.", fg="red", err=True
        )
        raise typer.Exit(2)
    if name and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        typer.secho("poolmgr: --name may hold letters, digits, dot, dash and underscore.", fg="red", err=True)
        raise typer.Exit(2)
    region = region_folder() / f"{name or os.getpid()}.cache"
    environment = {**os.environ, **hook_environment(find_library(library), region, memory, cores)}
    try:
        os.execvpe(context.args[0], context.args, environment)
    except OSError as error:
        typer.secho(f"poolmgr: {context.args[0]} cannot be started: {error.strerror}.", fg="red", err=True)
        raise typer.Exit(127) from error


def read_regions(paths: list[Path]) -> dict[str, Region | str]:
    """Name → region, or the sentence why it is none."""
    found: dict[str, Region | str] = {}
    for path in sorted(paths):
        try:
            found[path.stem] = decode_region(path.read_bytes())
        except (OSError, ValueError) as error:
            found[path.stem] = str(error)
    return found


def usage_table(regions: dict[str, Region | str], *, living: bool) -> Table:
    table = Table("Name", "GPU", "PID", "Memory", "Limit", "GPU time", "Share", box=None, pad_edge=False)
    for name, region in regions.items():
        if isinstance(region, str):
            table.add_row(name, "-", "-", region, "", "", "")
            continue
        for process in region.processes:
            if living and not Path(f"/proc/{process.pid}").exists():
                continue
            for device in region.devices:
                table.add_row(
                    name,
                    str(device.index),
                    str(process.pid),
                    f"{process.used[device.index] >> 20} MiB",
                    f"{device.memory_limit >> 20} MiB" if device.memory_limit else "none",
                    f"{process.busy[device.index]} %",
                    f"{device.core_limit} %" if device.core_limit else "none",
                )
    return table


@app.command()
def top(
    region: Annotated[
        list[Path] | None, typer.Argument(help="Region files; default: those of `poolmgr gpu run`.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Every second, until Ctrl-C.")] = False,
) -> None:
    """Show who uses how much of which GPU."""
    console = Console()
    while True:
        regions = read_regions(region or list(region_folder().glob("*.cache")))
        table = usage_table(regions, living=not region)
        if table.row_count:
            console.print(table)
        else:
            console.print("Nobody uses a GPU under the hook. Start something with `poolmgr gpu run`.")
        if not watch:
            return
        time.sleep(1)


PROBE = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
if cuda.cuInit(0): sys.exit(3)
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
free, total = ctypes.c_size_t(), ctypes.c_size_t()
cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
cuda.cuCtxSetCurrent(context)
if cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)): sys.exit(4)
refused = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(total.value + (1 << 20)))
print(total.value, refused)
"""


@app.command()
def selftest(library: LibraryOption = None) -> None:
    """Say in a sentence whether limits are in force here: in this container, or (with --library) under that hook."""
    import sys

    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        if library:
            region = Path(folder) / "selftest.cache"
            environment |= hook_environment(find_library(library), region, "256Mi", None)
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    limit = environment.get("CUDA_DEVICE_MEMORY_LIMIT") or environment.get("CUDA_DEVICE_MEMORY_LIMIT_0")
    mapped = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/maps').read())"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    if "libvgpu" not in mapped:
        typer.echo(
            "Limits are NOT in force: no libvgpu.so is loaded into programs here (look at LD_PRELOAD and /etc/ld.so.preload)."
        )
        raise typer.Exit(1)
    if done.returncode != 0:
        typer.echo(
            f"Limits cannot be tested: the hook is loaded, but the driver does not start here. {done.stderr.strip()[-200:]}"
        )
        raise typer.Exit(1)
    total, refused = (int(word) for word in done.stdout.split())
    if limit is None or not refused:
        typer.echo(
            f"Limits are NOT in force: programs see {total >> 20} MiB and no memory limit is set for them."
        )
        raise typer.Exit(1)
    typer.echo(
        f"Limits are in force: programs see a GPU of {total >> 20} MiB, and asking for more was refused."
    )
