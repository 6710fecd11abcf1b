"""What NVIDIA's driver itself shows of a GPU below /proc: its minor number, its UUID, the files of its MIG devices.

NVIDIA's container runtime mounts a file system over /proc/driver/nvidia that has the GPUs of the container's start alone, so
everything is looked at as the host's first process sees it, too.
"""

from dataclasses import dataclass
from pathlib import Path

from poolmgr.agent.files import NodeFiles, parse_number
from poolmgr.domain.identifiers import PciAddress

_CAPABILITIES = "nvidia-caps"
"""Name of their major in /proc/devices; the kernel chooses its number at boot."""


@dataclass(frozen=True, slots=True)
class DriverFiles:
    minor: int | None = None
    """Of /dev/nvidia<minor>; None where the driver does not show it."""
    uuid: str = ""
    """Empty where it does not show it, as before its first client."""
    capabilities: tuple[tuple[int, int], ...] = ()
    """Major and minor of /dev/nvidia-caps/nvidia-cap<minor> for each GPU instance and compute instance on it."""


def read_driver_files(files: NodeFiles, proc: Path, address: PciAddress) -> DriverFiles:
    for folder in (f"{proc}", f"{proc}/1/root/proc"):
        lines = _lines(files, f"{folder}/driver/nvidia/gpus/{address}/information")
        minor = parse_number(lines.get("Device Minor", ""))
        if minor is not None:
            uuid = lines.get("GPU UUID", "")
            return DriverFiles(
                minor, "" if "?" in uuid else uuid, _capabilities(files, f"{proc}", folder, minor)
            )
    return DriverFiles()


def _capabilities(files: NodeFiles, proc: str, folder: str, gpu: int) -> tuple[tuple[int, int], ...]:
    instances = f"{folder}/driver/nvidia/capabilities/gpu{gpu}/mig"
    names = [f"{instances}/{gi}" for gi in _entries(files, instances) if gi.startswith("gi")]
    names += [f"{gi}/{ci}" for gi in names for ci in _entries(files, gi) if ci.startswith("ci")]
    minors = [parse_number(_lines(files, f"{name}/access").get("DeviceFileMinor", "")) for name in names]
    major = _major(files, proc) if minors else None
    return tuple((major, minor) for minor in minors if minor is not None and major is not None)


def _major(files: NodeFiles, proc: str) -> int | None:
    for line in _read(files, f"{proc}/devices").splitlines():
        number, _, name = line.strip().partition(" ")
        if name == _CAPABILITIES:
            return parse_number(number)
    return None


def _lines(files: NodeFiles, path: str) -> dict[str, str]:
    """Of a file of labels and values; empty where it cannot be read."""
    pairs = (line.partition(":") for line in _read(files, path).splitlines())
    return {label.strip(): value.strip() for label, _, value in pairs}


def _read(files: NodeFiles, path: str) -> str:
    try:
        return files.read(path).decode(errors="replace")
    except OSError:
        return ""


def _entries(files: NodeFiles, folder: str) -> list[str]:
    try:
        return sorted(files.entries(folder))
    except OSError:
        return []
