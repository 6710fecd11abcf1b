"""The only module that reads and writes /sys. Its root is a parameter, so tests bring their own tree.

`driver_override` and everything else that takes the kernel's device lock is never read here: while an
unbind hangs in the driver that lock is held, and the read would hang this process too. Writes go through
`kernelwrite`, in a child process.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from poolmgr.agent.kernelwrite import KernelWriter, WriteOutcome
from poolmgr.domain.identifiers import PciAddress

ATTRIBUTE_BYTES = 4096
"""The most that the kernel gives of an attribute: one page."""
WRITE_DEADLINE_SECONDS = 20.0
"""For writes that normally return at once. Only unbind and probe run driver code."""


class Sysfs:
    """PCI functions and drivers below `root`."""

    def __init__(self, writer: KernelWriter, root: Path = Path("/sys")) -> None:
        self._writer = writer
        self._devices = root / "bus/pci/devices"
        self._drivers = root / "bus/pci/drivers"
        self._bus = root / "bus/pci"
        self._class = root / "class"

    def list_addresses(self) -> tuple[PciAddress, ...]:
        """Every PCI function of the node, sorted."""
        if not self._devices.is_dir():
            return ()
        return tuple(sorted(PciAddress(entry.name) for entry in self._devices.iterdir()))

    def exists(self, address: PciAddress) -> bool:
        return (self._devices / address).exists()

    def is_virtual(self, address: PciAddress) -> bool:
        """A virtual function of SR-IOV: it hangs on its physical one."""
        return _link_name(f"{self._devices}/{address}/physfn") is not None

    def has_mediated_devices(self, address: PciAddress) -> bool:
        """Parts of it were given out as mediated devices (vGPU)."""
        try:
            kinds = os.listdir(f"{self._devices}/{address}/mdev_supported_types")
        except OSError:
            return False
        return any(
            _entries(f"{self._devices}/{address}/mdev_supported_types/{kind}/devices") for kind in kinds
        )

    def read_attribute(self, address: PciAddress, name: str) -> str | None:
        """An attribute's text without its newline; None where the function or attribute is not there."""
        text = _read(f"{self._devices}/{address}/{name}")
        return None if text is None else text.strip()

    def read_hex(self, address: PciAddress, name: str) -> str:
        """`0x10de` as `10de`; empty where unreadable."""
        return (self.read_attribute(address, name) or "").removeprefix("0x")

    def read_driver(self, address: PciAddress) -> str | None:
        """Name of the bound driver, or None."""
        return _link_name(f"{self._devices}/{address}/driver")

    def read_iommu_group(self, address: PciAddress) -> int | None:
        """None without an IOMMU, and for the groups of vfio's no-IOMMU mode: they protect nothing."""
        name = _link_name(f"{self._devices}/{address}/iommu_group")
        if self.read_attribute(address, "iommu_group/name") == "vfio-noiommu":
            return None
        return int(name) if name is not None and name.isdigit() else None

    def list_group(self, address: PciAddress) -> tuple[PciAddress, ...]:
        """Members of the function's IOMMU group, itself included; empty without an IOMMU."""
        folder = self._devices / address / "iommu_group" / "devices"
        try:
            return tuple(sorted(PciAddress(entry.name) for entry in folder.iterdir()))
        except OSError:
            return ()

    def read_vendor_from_config(self, address: PciAddress) -> str:
        """Vendor id as the card itself answers it; `ffff` when it has fallen off the bus."""
        try:
            with (self._devices / address / "config").open("rb") as config:
                raw = config.read(2)
        except OSError:
            return ""
        return raw[::-1].hex()

    def list_character_devices(self, address: PciAddress) -> Iterator[tuple[str, int, int]]:
        """(name, major, minor) of the character devices the kernel hangs below the function: DRM nodes,
        frame buffers, sound, vfio cdev. Links are not followed: they lead to other devices."""
        yield from _walk_devices(f"{self._devices}/{address}", depth=4)

    def read_vfio_group_device(self, group: int) -> tuple[int, int] | None:
        """Device number of /dev/vfio/<group>; None while no member is on a vfio driver."""
        return _device_number(f"{self._class}/vfio/{group}/dev")

    def has_driver(self, driver: str) -> bool:
        """The driver is registered, its module loaded."""
        return (self._drivers / driver).is_dir()

    def addresses_in_flight(self) -> frozenset[PciAddress]:
        """Functions about which a write by us, now or before a restart, has not returned. Raises OSError."""
        return self._writer.in_flight()

    def prepare_writes(self) -> None:
        """Say that writes are about to come."""
        self._writer.prepare()

    async def write_override(self, address: PciAddress, driver: str | None) -> WriteOutcome:
        """Reserve the function for one driver; None lifts the reservation."""
        path = self._devices / address / "driver_override"
        return await self._writer.write(address, path, driver or "", WRITE_DEADLINE_SECONDS)

    async def unbind(self, address: PciAddress, deadline_seconds: float) -> WriteOutcome:
        """Take the function from its driver."""
        path = self._devices / address / "driver" / "unbind"
        return await self._writer.write(address, path, address, deadline_seconds)

    async def probe(self, address: PciAddress, deadline_seconds: float) -> WriteOutcome:
        """Let the kernel find a driver for it. Succeeds even when none binds: read the driver back."""
        return await self._writer.write(address, self._bus / "drivers_probe", address, deadline_seconds)


# By strings: a look at a GPU is some hundred files, and `Path` takes ten times as long as the kernel for each.


def _read(path: str) -> str | None:
    """What a small file says; None where it is not there or cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(file, ATTRIBUTE_BYTES).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(file)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _link_name(link: str) -> str | None:
    try:
        return os.readlink(link).rpartition("/")[2]
    except OSError:
        return None


def _walk_devices(folder: str, depth: int) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}"
        if name[:5].count(":") == 1 and os.path.exists(f"{path}/vendor"):
            continue  # another PCI function behind this one
        number = _device_number(f"{path}/dev")
        if number is not None:
            yield (name, *number)
        if depth > 1:
            yield from _walk_devices(path, depth - 1)


def _device_number(path: str) -> tuple[int, int] | None:
    major, _, minor = (_read(path) or "").strip().partition(":")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
