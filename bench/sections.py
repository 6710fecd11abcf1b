"""The benchmark report, and what a figure in it was measured on."""

import os
import platform
import subprocess
from pathlib import Path
from time import strftime

from poolmgr.kit.marked_section import replace_section

TITLE = "# Benchmarks\n\nEach section is written by the command that it names; where one was put together otherwise, it says so.\n"


def write_section(path: Path, name: str, body: str) -> None:
    """Rewrite the report's section of that name and leave the others alone."""
    text = path.read_text(encoding="utf-8") if path.exists() else TITLE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(replace_section(text, name, body), encoding="utf-8")


def measured_on() -> str:
    """The machine, the version and the day: without them a figure says nothing."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), model)
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores (load {load:.1f} at the end, from other work), "
        f"Python {platform.python_version()}, commit {commit()}, {strftime('%Y-%m-%d')}"
    )


def commit() -> str:
    """The checkout's commit; `-dirty` where files differ from it, `unknown` outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
