"""The locked Python packages as a layer, and the image's own interpreter to compile with."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from tools.image import layer
from tools.image.command import ROOT, run

NOT_COMPILED = r"/kubernetes/.*/(models|api)/"
"""A quarter of all code in the image, of which nothing is loaded: `poolmgr.cluster.transport` works below it."""
UV = ROOT / ".venv/tools/bin/uv"
SELECTION = ("--frozen", "--no-dev", "--extra", "postgresql", "--no-emit-project")
"""Of uv.lock: what runs, with the driver for a PostgreSQL ledger."""


@dataclass(frozen=True)
class Architecture:
    """One processor in the words of Debian, of uv, of the kernel, of qemu and of Debian's library folders."""

    debian: str
    platform: str
    machine: str
    triplet: str

    @property
    def native(self) -> bool:
        return platform.machine() == self.machine


ARCHITECTURES = {
    "amd64": Architecture("amd64", "x86_64-manylinux_2_28", "x86_64", "x86_64-linux-gnu"),
    "arm64": Architecture("arm64", "aarch64-manylinux_2_28", "aarch64", "aarch64-linux-gnu"),
}


@dataclass(frozen=True)
class Interpreter:
    """The image's Python, run from its unpacked root file system with that system's own libraries, so that no
    privilege is needed. Always of this machine's processor: byte code is the same for all. `version` as 3.13."""

    root: Path
    version: str

    @classmethod
    def unpack(cls, base: layer.Layer, folder: Path, version: str) -> "Interpreter":
        """From the layer with Debian; unpacked once."""
        if not folder.exists():
            unfinished = folder.with_name(folder.name + ".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            command = ["tar", "-xzf", str(base.path), "-C", str(unfinished), "--no-same-owner"]
            run([*command, "--wildcards", "lib*", "usr/lib*", "usr/bin"])
            unfinished.replace(folder)
        return cls(folder, version)

    @property
    def site_packages(self) -> str:
        """Where Debian's Python looks for what the administrator installed, below the root."""
        return f"usr/local/lib/python{self.version}/dist-packages"

    def compile(self, folder: Path) -> None:
        """Byte code for the modules below `folder`, which stands for the image's root. It is never compared with the
        sources: in an image neither changes."""
        self.run(
            "-m", "compileall", "-qq", "-f", "--invalidation-mode", "unchecked-hash",
            "-x", NOT_COMPILED, "-s", str(folder), "-p", "/", str(folder),
        )  # fmt: skip

    def run(self, *arguments: str, modules: Path | None = None) -> str:
        """Runs Python; `modules`: a folder to import from. Returns what it prints, raises StepFailed."""
        libraries = self.root / "usr/lib" / native().triplet
        (loader,) = libraries.glob("ld-linux-*.so.?")
        program = [
            str(loader),
            "--library-path",
            str(libraries),
            str(self.root / f"usr/bin/python{self.version}"),
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONHOME": str(self.root / "usr"),
            "PYTHONHASHSEED": "0",
        }
        if modules:
            environment["PYTHONPATH"] = str(modules)
        return run([*program, "-s", "-S", "-B", *arguments], environment)


def native() -> Architecture:
    """This machine's."""
    return next(item for item in ARCHITECTURES.values() if item.native)


def requirements() -> str:
    """The packages of uv.lock that run, with the checksums of their wheels."""
    return run([str(UV), "export", "--quiet", "--no-header", "--no-annotate", *SELECTION])


def take_commands_out(site: Path) -> None:
    """The packages' own commands name the builder's interpreter, and so differ from one checkout to the next; each
    package's list of its files gives their checksums."""
    shutil.rmtree(site / "bin", ignore_errors=True)
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_bytes().splitlines(keepends=True)
        record.write_bytes(b"".join(line for line in lines if not line.startswith(b"bin/")))


def python_packages(
    interpreter: Interpreter, architecture: Architecture, wanted: str, scratch: Path, target: Path, epoch: int
) -> layer.Layer:
    """Installs `wanted` (see `requirements`) from wheels alone, for the image's Python and that processor."""
    site = scratch / interpreter.site_packages
    listing = scratch.with_suffix(".txt")
    listing.write_text(wanted)
    run(
        [
            str(UV), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
            "--no-config", "--python-version", interpreter.version, "--link-mode", "copy",
            "--python-platform", architecture.platform,
            "--target", str(site), "--requirements", str(listing),
        ]
    )  # fmt: skip
    take_commands_out(site)
    (site / ".lock").unlink(missing_ok=True)
    interpreter.compile(scratch)
    return layer.from_folder(scratch, target, epoch)
