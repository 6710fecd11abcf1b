"""How the files of NVIDIA's driver, of SR-IOV's neighbours and of mediated devices look: text, numbers, paths.

Sources: NVIDIA's MIG User Guide ("Device Nodes and Capabilities") for /dev/nvidia-caps and the capabilities; the Linux
driver's README for the device files; /proc/driver/nvidia/gpus/*/information as 535 to 580 print it; the kernel's
Documentation/driver-api/vfio-mediated-device.rst for mdev.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.nvml.state import DRIVER_VERSION

NVIDIA_MAJOR = 195
"""Of /dev/nvidia<minor>, nvidiactl and nvidia-modeset: fixed in Linux' devices.txt."""
UVM_MAJOR, CAPS_MAJOR, NVSWITCH_MAJOR = 508, 236, 235
"""Dynamic on a real node; a reader has to look them up in /proc/devices."""
DRM_MAJOR = 226
FIRST_RENDER_MINOR = 384
"""128 on most nodes; the emulated kernel's DRM core has all below 256 for itself, and newer kernels go beyond."""
NVSWITCH = ("10de", "22a3", "068000")
"""Vendor, device and class of an H100 board's NVSwitch."""
ALL_ONES = b"\xff" * 64
"""The configuration space of a card that has fallen off the bus."""


@dataclass(frozen=True)
class DeviceFile:
    """A character device that the driver's udev rules or nvidia-modprobe make below /dev."""

    path: str
    major: int
    minor: int


@dataclass(frozen=True)
class Folder:
    """What one folder of sysfs or proc shows beside what the kernel has there, or instead of it.

    Keys are paths below the folder. `driven` ones are there only while `device` is on its host driver.
    """

    path: str
    device: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    driven: Mapping[str, str] = field(default_factory=dict)
    config: bytes = b""
    """First bytes of the PCI configuration space."""


UNKNOWN_UUID = "GPU-????????-????-????-????-????????????"
VERSION = (
    f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER_VERSION}  Release Build  (test bed)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)\n"
)
PARAMETERS = "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n"


def mig_minor(gpu: int, gi: int, ci: int | None = None) -> int:
    """Minor of a capability, fixed by GPU minor, GPU instance (0-14) and compute instance (0-7): after config and
    monitor (1, 2) each GPU instance has one for itself and eight for its compute instances."""
    return 3 + (gpu * 15 + gi) * 9 + (0 if ci is None else 1 + ci)


def mig_minors(gpus: int = 32) -> str:
    """/proc/driver/nvidia-caps/mig-minors: all that there could be."""
    text = "config 1\nmonitor 2\n"
    for index in range(gpus):
        for gi in range(15):
            text += f"gpu{index}/gi{gi}/access {mig_minor(index, gi)}\n"
            text += "".join(
                f"gpu{index}/gi{gi}/ci{ci}/access {mig_minor(index, gi, ci)}\n" for ci in range(8)
            )
    return text


def capability_file(minor: int) -> str:
    """Mode 0444 for access, 0400 for config and monitor."""
    return f"DeviceFileMinor: {minor}\nDeviceFileMode: {256 if minor <= 2 else 292}\nDeviceFileModify: 1\n"


def device_folder(address: str) -> str:
    return f"/sys/bus/pci/devices/{address}"


def identity(vendor: str, device: str, pci_class: str) -> tuple[dict[str, str], bytes]:
    """The files that name a function, and the beginning of its configuration space."""
    files = {"vendor": f"0x{vendor}\n", "device": f"0x{device}\n", "class": f"0x{pci_class}\n"}
    config = bytes.fromhex(vendor)[::-1] + bytes.fromhex(device)[::-1]
    return files, config


MDEV_TYPE = "nvidia-558"
MDEV_ROOM = 4


def add_mdevs(files: dict[str, str], links: dict[str, str], made: tuple[str, ...] | None) -> None:
    """A parent of mediated devices with one type, and those that are made; None: not a parent."""
    if made is None:
        return
    kind = f"mdev_supported_types/{MDEV_TYPE}"
    files |= {
        f"{kind}/name": "NVIDIA A40-12Q\n",
        f"{kind}/device_api": "vfio-pci\n",
        f"{kind}/available_instances": f"{MDEV_ROOM - len(made)}\n",
        f"{kind}/description": "num_heads=4, frl_config=60, framebuffer=12288M, max_instance=4\n",
    }
    for uuid_ in made:
        links[f"{kind}/devices/{uuid_}"] = f"../../../{uuid_}"
        links[f"{uuid_}/mdev_type"] = f"../{kind}"
        links[f"{uuid_}/driver"] = "../../../../../bus/mdev/drivers/nvidia-vgpu-vfio"
