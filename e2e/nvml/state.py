"""What the fake NVML shows, as a file: the format is described in libhook/tests/fake_driver/nvml_file.c."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DRIVER_VERSION = "580.159.03"
CUDA_VERSION = 13000


@dataclass(frozen=True)
class Model:
    """A product as NVML tells it: name, PCI ids (device before vendor), framebuffer, compute capability."""

    name: str
    pci_device_id: str
    memory_mib: int
    compute_capability: str
    has_mig: bool = False


L40S = Model("NVIDIA L40S", "26b910de", 46068, "8.9")
T4 = Model("Tesla T4", "1eb810de", 15360, "7.5")
A100 = Model("NVIDIA A100-SXM4-80GB", "20b210de", 81920, "8.0", has_mig=True)


def gpu(address: str, uuid: str, model: Model = L40S, *, minor: int | None = None, lines: str = "") -> str:
    """The section of one GPU; `lines` are more of it, such as "state = lost" or "process = compute 4321"."""
    text = (
        f"[gpu {address}]\nuuid = {uuid}\nmodel = {model.name}\nmemory_mib = {model.memory_mib}\n"
        f"pci_device_id = {model.pci_device_id}\ncompute_capability = {model.compute_capability}\n"
    )
    if minor is not None:
        text += f"minor = {minor}\n"
    if model.has_mig and "mig = " not in lines:
        text += "mig = off\n"
    return text + "".join(f"{line.strip()}\n" for line in lines.strip().splitlines())


def system(*fail: str) -> str:
    """The section of what belongs to no GPU; `fail` is such as "nvmlInit DRIVER_NOT_LOADED"."""
    text = (
        f"[system]\ndriver_version = {DRIVER_VERSION}\nnvml_version = 13.{DRIVER_VERSION}\n"
        f"cuda_version = {CUDA_VERSION}\n"
    )
    return text + "".join(f"fail = {function}\n" for function in fail)


def write(path: Path, sections: Iterable[str]) -> None:
    """Whole or not at all: a program that reads meanwhile sees the old file or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text("".join(sections))
    fresh.rename(path)
