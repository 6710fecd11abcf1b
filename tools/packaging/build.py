"""The steps of a build, in order."""

import re
import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from e2e.cache import cache_folder, locked
from poolmgr.kit.elf import why_not_loaded
from tools.image.build import ensure_tools, read_revision, said
from tools.image.command import ROOT, StepFailed, run
from tools.image.environment import Architecture
from tools.image.project import build_libhook, build_wheel
from tools.packaging import system

OLDEST_GLIBC = (2, 17)
"""Of manylinux2014 (PEP 599)."""


def build(architectures: Sequence[Architecture], out: Path) -> list[Path]:
    """Builds every package into `out`, in place of those of earlier builds. Raises StepFailed, CacheUnusable."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    epoch = read_revision().time
    # The image's lock: its tools and its build of libhook are used.
    with locked(cache_folder() / "image.lock", "waiting for a build of the image"):
        with said("packages: tools (uv.lock)"):
            tools = ensure_tools(cache_folder() / "image")
        with tempfile.TemporaryDirectory() as scratch:
            finished = Path(scratch) / "finished"
            finished.mkdir()
            with said("packages: wheel without libhook"):
                _take(build_wheel(tools, _folder(scratch, "any"), epoch), finished)
            for one in architectures:
                with said(f"packages: libhook for {one.debian}"):
                    library = _checked_library(one)
                with said(f"packages: wheel, deb and rpm for {one.debian}"):
                    wheel = build_wheel(tools, _folder(scratch, one.debian), epoch, library, _platform(one))
                    _check_wheel(tools, wheel)
                    _take(wheel, finished)
                    content = system.Content(version, one, library, epoch)
                    system.build_deb(content, _folder(scratch, f"deb-{one.debian}"), finished)
                    system.build_rpm(content, _folder(scratch, f"rpm-{one.debian}"), finished)
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(finished, out)
    return sorted(out.iterdir())


def _platform(architecture: Architecture) -> str:
    return f"manylinux2014_{architecture.machine}"


def _folder(scratch: str, name: str) -> Path:
    folder = Path(scratch) / name
    folder.mkdir()
    return folder


def _take(file: Path, folder: Path) -> None:
    shutil.copy2(file, folder / file.name)


def _checked_library(architecture: Architecture) -> Path:
    """libvgpu.so for that processor. Raises StepFailed where the compiler made it for another."""
    library = build_libhook(ROOT / f"build/image/libhook-{architecture.debian}", architecture)
    if wrong := why_not_loaded(library.read_bytes(), architecture.machine):
        raise StepFailed(f"{library} {wrong}")
    return library


def _check_wheel(tools: Path, wheel: Path) -> None:
    """Asks auditwheel whether the library inside loads on every system that manylinux2014 stands for. Raises StepFailed."""
    listing = run([str(tools / "bin/python"), "-m", "auditwheel", "show", str(wheel)])
    found = glibc_needed(listing)
    if found is None or found > OLDEST_GLIBC:
        raise StepFailed(
            f"{wheel.name} does not keep what its name says: auditwheel finds\n{listing.strip()}\nBuild it with the "
            "compiler and the C library of a Debian release that the tests run on"
        )


def glibc_needed(listing: str) -> tuple[int, int] | None:
    """The oldest glibc on which a wheel works, of what `auditwheel show` says; None where it works on no manylinux."""
    found = re.search(r"platform\s+tag:\s+\"manylinux_(\d+)_(\d+)_", listing)
    return (int(found[1]), int(found[2])) if found else None
