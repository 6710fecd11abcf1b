"""The real `nvidia-smi`, without installing it: the machine's own, or unpacked from Debian's non-free component."""

import os
import shutil
import subprocess
from pathlib import Path

from e2e.cache import cache_folder, locked
from e2e.parts import PartMissing

SOURCE = "deb https://deb.debian.org/debian bookworm non-free\n"


def ensure_nvidia_smi() -> Path:
    """Path of the program. Raises PartMissing with what to do."""
    if installed := shutil.which("nvidia-smi"):
        return Path(installed)
    folder = cache_folder() / "nvidia-smi"
    program = folder / "root/usr/lib/nvidia/current/nvidia-smi"
    if program.is_file():
        return program
    with locked(cache_folder() / ".nvidia-smi.lock", "another run is fetching nvidia-smi; waiting for it"):
        try:
            _fetch(folder)
        except (subprocess.SubprocessError, OSError) as error:
            raise PartMissing(
                f"nvidia-smi is neither on PATH nor to be had from Debian's non-free component ({error}); "
                "install the NVIDIA driver's utilities, or make deb.debian.org reachable"
            ) from error
    return program


def _fetch(folder: Path) -> None:
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    (folder / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(SOURCE)
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={folder / 'sources.list'}"]
    apt += ["-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State::lists={folder / 'lists'}"]
    apt += ["-o", f"Dir::Cache={folder / 'cache'}", "-o", "APT::Sandbox::User=root"]
    environment = {**os.environ, "LC_ALL": "C"}
    for verb in (["update"], ["download", "nvidia-smi"]):
        subprocess.run(
            [*apt, *verb], cwd=folder, env=environment, check=True, capture_output=True, timeout=6000
        )
    (package,) = folder.glob("nvidia-smi_*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True, timeout=600)
