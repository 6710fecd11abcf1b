"""Builds programs from the pinned modules of a folder with go.mod and go.sum, once.

They land in the cache, in a folder named by what they depend on (go.mod, go.sum, our own Go files, flags,
architecture); a change of any of these builds anew, anything else builds nothing. One binary at a time: the
compiler uses all cores by itself. Each is moved into place when it is complete, so an interrupted build goes on
where it stopped.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from e2e.cache import CacheUnusable, cache_folder, locked
from e2e.toolchain import ToolchainMissing, go_command

_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


class BuildFailed(Exception):
    """A program cannot be built here; the message says which, why, and where the log is."""


@dataclass(frozen=True)
class GoModule:
    """A go.mod and the programs that tests take from it."""

    name: str
    """Its folder in the cache."""
    about: str
    """What the programs are together, in words."""
    cold: str
    """How long a build with an empty cache takes, in words."""
    folder: Path
    """Where go.mod, go.sum and, where we add one, our own main packages are."""
    programs: Mapping[str, str]
    """Binary → its package. Small ones first, so that a mistake in go.mod shows early."""
    stamps: Mapping[str, str]
    """Variable → version that the linker sets; without it many programs call themselves something else."""

    def build_folder(self) -> Path:
        """The cache folder of exactly these modules, flags and architecture."""
        key = hashlib.sha256()
        for file in (self.folder / "go.mod", self.folder / "go.sum", *sorted(self.folder.rglob("*.go"))):
            key.update(file.read_bytes())
        flags = [self._flags(), sorted(_ENVIRONMENT.items()), platform.system(), platform.machine()]
        key.update(json.dumps(flags).encode())
        return cache_folder() / self.name / key.hexdigest()[:16]

    def ensure(self, names: Iterable[str]) -> dict[str, Path]:
        """The named programs, those built that are not in the cache. Raises BuildFailed."""
        try:
            folder = self.build_folder()
            programs = {name: folder / name for name in names}
            if any(not path.exists() for path in programs.values()):
                with self.locked():
                    self._build([name for name, path in programs.items() if not path.exists()], folder)
        except CacheUnusable as unusable:
            raise BuildFailed(str(unusable)) from unusable
        return programs

    def locked(self) -> AbstractContextManager[None]:
        """Held by whoever writes into the build folder."""
        return locked(self.build_folder() / ".lock", f"another run is building {self.about}; waiting for it")

    def source_folder(self, module: str) -> Path:
        """Files of a required module, fetched if need be: what is not Go, such as manifests. Raises BuildFailed."""
        done = subprocess.run(
            [_go(), "mod", "download", "-json", module],
            cwd=self.folder,
            env=os.environ | _ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BuildFailed(f"{module} cannot be had: {done.stderr.strip()[-400:]}")
        return Path(json.loads(done.stdout)["Dir"])

    def _flags(self) -> list[str]:
        stamps = " ".join(f"-X {name}={value}" for name, value in self.stamps.items())
        return ["-trimpath", "-ldflags", f"-s -w {stamps}"]

    def _build(self, names: list[str], folder: Path) -> None:
        if not names:
            return
        go = _go()
        listed = ", ".join(names)
        print(
            f"· building {self.about} with {go} (cold: {self.cold}, once): {listed}",
            file=sys.stderr,
            flush=True,
        )
        for position, name in enumerate(names, start=1):
            self._build_one(go, name, folder, f"[{position}/{len(names)}] {name}")

    def _build_one(self, go: Path, name: str, folder: Path, label: str) -> None:
        partial = folder / f".{name}.partial"
        log = folder / f"{name}.log"
        package = self.programs[name]
        started = time.monotonic()
        with log.open("wb") as output:
            build = subprocess.Popen(
                [go, "build", *self._flags(), "-o", partial, package],
                cwd=self.folder,
                env=os.environ | _ENVIRONMENT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                while True:
                    try:
                        status = build.wait(timeout=1 if sys.stdout.isatty() else 30)
                        break
                    except subprocess.TimeoutExpired:
                        _say(label, started, last=False)
            finally:
                if build.poll() is None:
                    build.terminate()
                    build.wait()
        if status != 0:
            tail = log.read_text(errors="replace").strip()[-1500:]
            raise BuildFailed(
                f"`go build {package}` failed after {time.monotonic() - started:.0f} s ({log}):\n{tail}"
            )
        partial.rename(folder / name)
        _say(label, started, last=True)


def pinned_version(folder: Path, module: str) -> str:
    """Version of `module` in the go.mod of `folder`, as `v1.36.3`. Raises BuildFailed."""
    go_mod = folder / "go.mod"
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if not found:
        raise BuildFailed(f"{go_mod} does not require {module}")
    return found[1]


def _go() -> Path:
    try:
        return go_command()
    except ToolchainMissing as missing:
        raise BuildFailed(str(missing)) from missing


def _say(label: str, started: float, *, last: bool) -> None:
    line = f"  {label} {'built in' if last else '…'} {time.monotonic() - started:.0f} s"
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
