"""Which PCI functions are GPUs of ours, and what they are called. Vendors are data files, not code.

A file names a vendor, the PCI classes of its GPUs, the drivers that serve them to containers and a table
of products. `data/nvidia.yaml` explains the fields.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
import yaml

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

VFIO_PCI = "vfio-pci"
VFIO_DRIVERS = frozenset({VFIO_PCI, "nvgrace_gpu_vfio_pci"})
"""vfio-pci and its variants: a GPU on one of them is in passthrough."""


class Product(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One PCI device id."""

    name: str
    model: str
    memory_mib: int = msgspec.field(default=0, name="memoryMiB")
    vfio_driver: str = VFIO_PCI


class Vendor(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One data file."""

    vendor_id: str
    vendor_name: str
    classes: tuple[str, ...]
    host_drivers: tuple[str, ...]
    resource_prefix: str
    devices: dict[str, Product]
    character_devices: str = ""
    """`nvidia`: its device files are not below the PCI function in sysfs but /dev/nvidia<minor>."""
    nvswitch_class: str = ""
    modeset_module: str = ""
    """Kernel module that keeps each GPU with a display node open for itself while its parameter `modeset` is on."""
    leaves_console: bool = False
    """Its host drivers give the kernel's console up when they are unbound; others hang or take the node down."""
    nvml: bool = False
    """NVML tells the UUIDs of its GPUs, by which HAMi gives slices away, and whether they are in MIG mode."""

    def product(self, device_id: str) -> Product:
        """The listed product, or one named by its device id."""
        known = self.devices.get(device_id)
        return known or Product(
            name=device_id.upper(), model=f"{self.vendor_name} [{self.vendor_id}:{device_id}]"
        )

    def resource_name(self, device_id: str) -> str:
        """Extended resource of a product, formed as NVIDIA's kubevirt-gpu-device-plugin does: upper case,
        each `/`, each `.` and each run of blanks becomes `_`, all else but letters, digits and `_` is dropped, so
        that existing permittedHostDevices entries keep fitting."""
        name = re.sub(r"[/.]|\s+", "_", self.product(device_id).name.strip().upper())
        return f"{self.resource_prefix}/{re.sub(r'[^A-Z0-9_]', '', name)}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All vendors that this agent looks after."""

    vendors: tuple[Vendor, ...]

    def match(self, vendor_id: str, class_id: str) -> Vendor | None:
        """The vendor whose GPU this function is. `class_id` is four hex digits, class and subclass."""
        return next((v for v in self.vendors if v.vendor_id == vendor_id and class_id in v.classes), None)

    def is_nvswitch(self, vendor_id: str, class_id: str) -> bool:
        return any(v.vendor_id == vendor_id and v.nvswitch_class == class_id for v in self.vendors)


def built_in() -> tuple[str, ...]:
    """Names of the data files that come with the agent."""
    folder = resources.files("poolmgr.agent") / "data"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_catalogue(names: Iterable[str]) -> Catalogue:
    """Read data files: a bare name is one that comes with the agent, anything with a `/` is a path.

    Raises Rejected with a sentence that names the file and the mistake.
    """
    return Catalogue(tuple(load_vendor(name) for name in names))


def load_vendor(name: str) -> Vendor:
    """One of them."""
    try:
        if "/" in name:
            text = Path(name).read_text()
        else:
            text = (resources.files("poolmgr.agent") / "data" / f"{name}.yaml").read_text()
        return msgspec.convert(yaml.safe_load(text), Vendor)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"cannot read the accelerator file {name!r} ({error}); "
            f"built-in ones are {', '.join(built_in())}, others are given by a path with a '/'",
        ) from error
