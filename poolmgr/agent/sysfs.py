"""The only module that reads and writes /sys. Its root is a parameter, so tests bring their own tree.

`driver_override` and everything else that takes the kernel's device lock is never read here: while an
unbind hangs in the driver that lock is held, and the read would hang this process too. Writes go through
`kernelwrite`, in a child process.
"""

from collections.abc import Iterator
from pathlib import Path

from poolmgr.agent.files import KERNEL_FILES, NodeFiles, parse_number
from poolmgr.agent.kernelwrite import KernelWriter, WriteOutcome
from poolmgr.agent.refusals import NotingFiles
from poolmgr.domain.identifiers import PciAddress
from poolmgr.wire.text import whole

HEADER_TYPE = 0x0E
"""Offset in the configuration space (PCI Local Bus 3.0, 6.1); the highest bit says whether there are more functions."""
WRITE_DEADLINE_SECONDS = 20.0
"""For writes that normally return at once. Only unbind and probe run driver code."""


class Sysfs:
    """PCI functions and drivers below `root`."""

    def __init__(
        self, writer: KernelWriter, root: Path = Path("/sys"), files: NodeFiles = KERNEL_FILES
    ) -> None:
        self._writer = writer
        self._root = root
        self.files = files
        self._devices = root / "bus/pci/devices"
        self._drivers = root / "bus/pci/drivers"
        self._bus = root / "bus/pci"
        self._class = root / "class"
        self._modules = root / "module"
        self._mediated = f"{root}/bus/mdev/devices"

    def noting(self) -> tuple["Sysfs", NotingFiles]:
        """The same, and a note of what is there and cannot be read, which most answers take for absent."""
        noting = NotingFiles(self.files)
        return Sysfs(self._writer, self._root, noting), noting

    def list_addresses(self) -> tuple[PciAddress, ...]:
        """Every PCI function of the node, sorted."""
        return tuple(sorted(PciAddress(name) for name in self._entries(f"{self._devices}")))

    def exists(self, address: PciAddress) -> bool:
        return self._read(f"{self._devices}/{address}/vendor") is not None

    def is_virtual(self, address: PciAddress) -> bool:
        """A virtual function of SR-IOV: it hangs on its physical one."""
        return self._link_name(f"{self._devices}/{address}/physfn") is not None

    def count_virtual_functions(self, address: PciAddress) -> int:
        """Of SR-IOV: as many as it says that it has, or has links to, whichever is more."""
        links = [n for n in self._entries(f"{self._devices}/{address}") if n.startswith("virtfn")]
        return max(self.read_count(address, "sriov_numvfs"), len(links))

    def has_mediated_devices(self, address: PciAddress) -> bool:
        """Parts of it were given out as mediated devices (vGPU): by its own list of them, or by that of the whole bus."""
        kinds = f"{self._devices}/{address}/mdev_supported_types"
        if any(self._entries(f"{kinds}/{kind}/devices") for kind in self._entries(kinds)):
            return True
        return any(
            self._parent_name(f"{self._mediated}/{made}") == address for made in self._entries(self._mediated)
        )

    def console_frame_buffer(self) -> str:
        """The frame buffer that the kernel's console is on, e.g. `fb0`; empty where it is on none. It is the first one,
        unless somebody has mapped consoles by hand."""
        for console in sorted(self._entries(f"{self._class}/vtconsole")):
            folder = f"{self._class}/vtconsole/{console}"
            on_frame_buffer = "frame buffer" in (self._read(f"{folder}/name") or "")
            if on_frame_buffer and (self._read(f"{folder}/bind") or "").strip() != "0":
                numbers = [name.removeprefix("fb") for name in self._entries(f"{self._class}/graphics")]
                return f"fb{min(map(int, filter(str.isdigit, numbers)), default=0)}"
        return ""

    def has_frame_buffer(self, address: PciAddress, name: str) -> bool:
        return name in self._entries(f"{self._devices}/{address}/graphics")

    def has_display_node(self, address: PciAddress) -> bool:
        """The kernel's graphics (DRM) shows it."""
        return bool(self._entries(f"{self._devices}/{address}/drm"))

    def read_module_parameter(self, module: str, name: str) -> str | None:
        """None where the module is not loaded or has no such parameter; empty where it cannot be read."""
        if name not in self._entries(f"{self._modules}/{module}/parameters"):
            return None
        return (self._read(f"{self._modules}/{module}/parameters/{name}") or "").strip()

    def read_attribute(self, address: PciAddress, name: str) -> str | None:
        """An attribute's text without its newline; None where the function or attribute is not there."""
        text = self._read(f"{self._devices}/{address}/{name}")
        return None if text is None else text.strip()

    def read_hex(self, address: PciAddress, name: str) -> str:
        """`0x10de` as `10de`; empty where unreadable."""
        return (self.read_attribute(address, name) or "").removeprefix("0x")

    def read_count(self, address: PciAddress, name: str) -> int:
        """A number of things; 0 where there is no such attribute, 1 where it says anything but a number."""
        return whole(self.read_attribute(address, name) or "0", 1)

    def read_driver(self, address: PciAddress) -> str | None:
        """Name of the bound driver, or None."""
        return self._link_name(f"{self._devices}/{address}/driver")

    def read_iommu_group(self, address: PciAddress) -> int | None:
        """None without an IOMMU, and for the groups of vfio's no-IOMMU mode: they protect nothing."""
        name = self._link_name(f"{self._devices}/{address}/iommu_group")
        if self.read_attribute(address, "iommu_group/name") == "vfio-noiommu":
            return None
        return parse_number(name or "")

    def list_group(self, address: PciAddress) -> tuple[PciAddress, ...]:
        """Members of the function's IOMMU group, itself included; empty without an IOMMU."""
        names = self._entries(f"{self._devices}/{address}/iommu_group/devices")
        return tuple(sorted(PciAddress(name) for name in names))

    def read_vendor_from_config(self, address: PciAddress) -> str:
        """Vendor id as the card itself answers it; `ffff` when it has fallen off the bus, empty where it cannot be read."""
        return self._read_header(address)[:2][::-1].hex()

    def is_bridge(self, address: PciAddress) -> bool:
        """By its configuration header, as the kernel judges; a class of bridges (06) is no proof."""
        kind = self._read_header(address)[HEADER_TYPE:]
        return bool(kind) and kind[0] & 0x7F != 0

    def _read_header(self, address: PciAddress) -> bytes:
        """The first bytes of the configuration space; none where it cannot be read."""
        try:
            return self.files.read(f"{self._devices}/{address}/config", HEADER_TYPE + 1)
        except OSError:
            return b""

    def list_character_devices(self, address: PciAddress) -> Iterator[tuple[str, int, int]]:
        """(name, major, minor) of the character devices the kernel hangs below the function: DRM nodes,
        frame buffers, sound, vfio cdev. Links are not followed: they lead to other devices."""
        yield from self._walk_devices(f"{self._devices}/{address}", depth=4)

    def read_vfio_group_device(self, group: int) -> tuple[int, int] | None:
        """Device number of /dev/vfio/<group>; None while no member is on a vfio driver."""
        return self._device_number(f"{self._class}/vfio/{group}/dev")

    def has_driver(self, driver: str) -> bool:
        """The driver is registered, its module loaded."""
        try:
            self.files.entries(f"{self._drivers}/{driver}")
        except OSError:
            return False
        return True

    def addresses_in_flight(self) -> frozenset[PciAddress]:
        """Functions about which a write by us, now or before a restart, has not returned. Raises OSError."""
        return self._writer.in_flight()

    def prepare_writes(self) -> None:
        """Say that writes are about to come."""
        self._writer.prepare()

    async def write_override(self, address: PciAddress, driver: str) -> WriteOutcome:
        """Reserve the function for one driver; "" lifts the reservation."""
        path = self._devices / address / "driver_override"
        return await self._writer.write(address, path, driver, WRITE_DEADLINE_SECONDS)

    async def unbind(self, address: PciAddress, deadline_seconds: float) -> WriteOutcome:
        """Take the function from its driver."""
        path = self._devices / address / "driver" / "unbind"
        return await self._writer.write(address, path, address, deadline_seconds)

    async def probe(self, address: PciAddress, deadline_seconds: float) -> WriteOutcome:
        """Let the kernel find a driver for it. Succeeds even when none binds: read the driver back."""
        return await self._writer.write(address, self._bus / "drivers_probe", address, deadline_seconds)

    # By strings: a look at a GPU is some hundred files, and `Path` takes ten times as long as the kernel for each.

    def _read(self, path: str) -> str | None:
        """What a small file says; None where it is not there or cannot be read."""
        try:
            return self.files.read(path).decode(errors="replace")
        except OSError:
            return None

    def _entries(self, folder: str) -> list[str]:
        try:
            return self.files.entries(folder)
        except OSError:
            return []

    def _link_name(self, link: str) -> str | None:
        try:
            return self.files.target(link).rpartition("/")[2]
        except OSError:
            return None

    def _parent_name(self, link: str) -> str:
        """The folder above the one that a link leads to."""
        try:
            return self.files.target(link).rpartition("/")[0].rpartition("/")[2]
        except OSError:
            return ""

    def _walk_devices(self, folder: str, depth: int) -> Iterator[tuple[str, int, int]]:
        try:
            names = sorted(self.files.folders(folder))
        except OSError:
            return
        for name in names:
            path = f"{folder}/{name}"
            if name[:5].count(":") == 1 and self._read(f"{path}/vendor") is not None:
                continue  # another PCI function behind this one
            number = self._device_number(f"{path}/dev")
            if number is not None:
                yield (name, *number)
            if depth > 1:
                yield from self._walk_devices(path, depth - 1)

    def _device_number(self, path: str) -> tuple[int, int] | None:
        found = (self._read(path) or "").strip().partition(":")
        major, minor = parse_number(found[0]), parse_number(found[2])
        return None if major is None or minor is None else (major, minor)
