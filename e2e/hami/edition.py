"""Which HAMi stands here: the real one where its parts can be had, else the stand-in of this project.

`POOLMGR_HAMI=stand-in` takes the stand-in in any case; `POOLMGR_HAMI=real` says that a run on anything else would be a
mistake. Every other module asks here, so that both are run by the same code with the same values.
"""

import os
import shlex
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cache import PROJECT_ROOT
from e2e.hami.standin.release import RELEASES, VARIABLE
from e2e.parts import Part, PartMissing, PartRefused, obtain, part

CHOICE = "POOLMGR_HAMI"
REAL, STAND_IN = "real", "stand-in"
CHART = Path(__file__).resolve().parent / "chart"
PYTHON = Path(sys.executable).absolute()
_MODULES = {"scheduler": "scheduler", "nvidia-device-plugin": "device_plugin", "vgpu-monitor": "monitor"}
"""Part of the real HAMi → the stand-in's program."""
_NEEDED = ("scheduler", "nvidia-device-plugin", "chart.tgz")
_HARMLESS_LIBRARIES = (
    "/lib/x86_64-linux-gnu/libdl.so.2",
    "/lib/aarch64-linux-gnu/libdl.so.2",
    "/lib64/libdl.so.2",
)
"""glibc's libdl: empty since 2.34, so that a program may preload it and notices nothing."""

started: list["Edition"] = []
"""What this process has run so far, each once."""


@dataclass(frozen=True)
class Edition:
    """One release of HAMi, the real one or ours."""

    version: str
    origin: str = ""
    """Where the real one came from, in words; empty for the stand-in."""

    @property
    def real(self) -> bool:
        return bool(self.origin)

    def describe(self) -> str:
        """A sentence for the head of a log."""
        if self.real:
            return f"HAMi {self.version} (real, from {self.origin})"
        return f"HAMi {self.version} (stand-in of this project; not HAMi)"

    def command(self, program: str, *, root: str = "") -> list[str]:
        """The words that start a program, where this machine's files lie below `root`. Raises PartMissing."""
        if self.real:
            return [f"{root}{part(f'hami-{self.version}/{program}').resolve()}"]
        python = ["env", f"{VARIABLE}={self.version}", f"PYTHONPATH={root}{PROJECT_ROOT}", f"{root}{PYTHON}"]
        return [*python, "-B", "-m", f"e2e.hami.standin.{_MODULES[program]}"]

    def shell(self, program: str, *, root: str = "") -> str:
        """The same as a line of a shell script."""
        return shlex.join(self.command(program, root=root))

    def library(self) -> Path:
        """What lies on nodes as `libvgpu.so`: HAMi-core, or for the stand-in a library that does nothing."""
        if self.real:
            return part("hami-core/libvgpu.so")
        found = next((Path(path) for path in _HARMLESS_LIBRARIES if Path(path).exists()), None)
        if found is None:
            raise PartMissing(
                f"no libdl.so.2 in {', '.join(_HARMLESS_LIBRARIES)} to lie in for HAMi's library"
            )
        return found

    def unpack_chart(self, folder: Path) -> Path:
        """The chart in a folder of its own below `folder`, which is emptied."""
        shutil.rmtree(folder, ignore_errors=True)
        if not self.real:
            shutil.copytree(CHART, folder / "hami")
            file = folder / "hami" / "Chart.yaml"
            described = yaml.safe_load(file.read_text()) | {
                "version": self.version,
                "appVersion": self.version,
            }
            file.write_text(yaml.safe_dump(described))
            return folder / "hami"
        with tarfile.open(part(f"hami-{self.version}/chart.tgz")) as archive:
            # Python 3.11.2, which Debian 12 has, knows no filters.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            archive.extractall(folder)
        _forget_absent_subcharts(folder / "hami")
        return folder / "hami"


def choose(version: str, chosen: str | None = None, find: Callable[[str], Part] = obtain) -> Edition:
    """What a run on that release would run on: the real one if its parts can be had, else the stand-in, or what `chosen`
    says (None: CHOICE). Raises PartRefused for another value, and where the real one is chosen and is not here or
    is damaged; PartMissing for a release that neither is of."""
    chosen = os.environ.get(CHOICE, "") if chosen is None else chosen
    if chosen not in ("", REAL, STAND_IN):
        raise PartRefused(f"{CHOICE}={chosen}: set it to {REAL} or {STAND_IN}, or leave it out")
    if chosen != STAND_IN:
        try:
            parts = [find(f"hami-{version}/{name}") for name in _NEEDED]
            return Edition(version, parts[0].origin)
        except PartMissing as missing:
            if chosen == REAL:  # a run that is green because it was skipped would not be what was asked for
                raise PartRefused(f"{CHOICE}={REAL}, and {missing}") from missing
    if version not in RELEASES:
        raise PartMissing(f"the stand-in speaks HAMi {', '.join(RELEASES)}, not {version}")
    return Edition(version)


def take(version: str) -> Edition:
    """`choose`, and remembered as used."""
    edition = choose(version)
    if edition not in started:
        started.append(edition)
    return edition


def ran_on() -> str:
    """What this process has run so far, for the last line of a log; empty where it has run none."""
    return ", ".join(one.describe() for one in sorted(started, key=lambda one: one.version))


def _forget_absent_subcharts(chart: Path) -> None:
    """2.8.3 names a subchart (its DRA driver, switched off by default) that the archive does not carry."""
    file = chart / "Chart.yaml"
    described = yaml.safe_load(file.read_text())
    described["dependencies"] = [
        item for item in described.get("dependencies", []) if any((chart / "charts").glob(f"{item['name']}*"))
    ]
    file.write_text(yaml.safe_dump(described))
