"""What PCI says: the node's GPUs with their IOMMU group, driver and device numbers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from poolmgr.agent.accelerators import VFIO_DRIVERS, Catalogue, Vendor
from poolmgr.agent.driverfiles import DriverFiles, read_driver_files
from poolmgr.agent.files import parse_number
from poolmgr.agent.kernelusers import KernelUser, kernel_users
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode

ALL_ONES = "ffff"
"""What a vendor id reads as where nothing answers; no vendor has it."""
NVIDIA_MAJOR = 195
"""Character major of /dev/nvidia<minor>, fixed in Linux' devices.txt."""

DRIVERS_WITHOUT_DMA = ("pcieport", "pci-stub")
"""Drivers of Linux with `driver_managed_dma`, vfio's own apart."""


@dataclass(frozen=True, slots=True)
class PciFunction:
    address: PciAddress
    vendor_id: str
    device_id: str
    class_id: str
    """Four hex digits: class and subclass."""
    driver: str | None
    virtual: bool = False
    """A virtual function of SR-IOV."""
    bridge: bool = False
    """It has a bridge's configuration header."""
    unreadable: str = ""
    """The first of its files that is there and cannot be read; empty where all can be."""

    @property
    def may_stay(self) -> bool:
        """The kernel hands its group over while it stays as it is: a bridge, or on no driver or one that leaves DMA alone. An
        NVSwitch or an ISA bridge on a driver of its own is no such function, whatever its class."""
        return self.bridge or self.on_vfio or self.driver in (None, *DRIVERS_WITHOUT_DMA)

    @property
    def on_vfio(self) -> bool:
        return self.driver in VFIO_DRIVERS


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A character device through which a process can hold the GPU."""

    name: str
    major: int
    minor: int


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU as PCI shows it now."""

    function: PciFunction
    vendor: Vendor
    iommu_group: int | None
    companions: tuple[PciFunction, ...] = ()
    """The other functions of its own card in its IOMMU group (sound, USB): they travel with it."""
    peers: tuple[PciFunction, ...] = ()
    """Other GPUs of ours in its IOMMU group: only all together can they be passed through."""
    strangers: tuple[PciFunction, ...] = ()
    """Endpoints in its IOMMU group that belong to neither: while there are any, passthrough is out."""
    numa_node: int | None = None
    boot_display: bool = False
    kernel_users: tuple[KernelUser, ...] = ()
    """Parts of the kernel that use it without an open file."""
    off_bus: bool = False
    """It answers all ones: it has fallen off its bus."""
    answers: bool = True
    """Its configuration space begins with its own vendor's id."""
    unreadable: str = ""
    """The first file, of it or of its IOMMU group, that is there and cannot be read; empty where all can be."""
    virtual_functions: int = 0
    mediated_devices: bool = False
    """Parts of it are given out as mediated devices (vGPU)."""
    nvswitch_domain: str = ""
    driver_uuid: str = ""
    """As its host driver's own file tells it; empty where it does not."""
    driver_minor: int | None = None
    """Of /dev/nvidia<minor>, likewise."""
    device_files: tuple[DeviceFile, ...] = ()
    device_files_known: bool = False
    """All through which a process can hold it are in `device_files`: an open one cannot be overlooked."""
    vfio_group_present: bool = False
    """The kernel offers /dev/vfio/<group>."""

    @property
    def address(self) -> PciAddress:
        return self.function.address

    @property
    def driver(self) -> str | None:
        return self.function.driver

    @property
    def mode(self) -> Mode | None:
        """By its driver; None when on none or on one of neither mode."""
        return _mode(self.function, self.vendor)

    @property
    def functions(self) -> tuple[PciFunction, ...]:
        """All that a rebind touches, in its order: companions first, so that the GPU itself is the last
        to leave and nothing of the card is left behind on a host driver when it arrives."""
        return (*self.companions, self.function)

    @property
    def group_devices(self) -> tuple[PciAddress, ...]:
        members = {f.address for f in (*self.functions, *self.peers, *self.strangers)}
        return tuple(sorted(members)) if self.iommu_group is not None else ()

    @property
    def passthrough_complete(self) -> bool:
        """It and its companions are on a vfio driver and the group's device file is there."""
        return all(f.on_vfio for f in self.functions) and self.vfio_group_present and not self.strangers

    @property
    def usable_by_vm(self) -> bool:
        """A VM could open it now: the whole group is on vfio."""
        return self.passthrough_complete and all(f.on_vfio for f in self.peers)

    @property
    def left_over_companions(self) -> bool:
        """A companion is not on the side of its GPU: the trace of an interrupted move."""
        if self.mode is Mode.PASSTHROUGH:
            return not all(f.on_vfio for f in self.companions)
        return self.mode is Mode.SHARED and any(f.on_vfio for f in self.companions)

    @property
    def resource_name(self) -> str:
        return self.vendor.resource_name(self.function.device_id)


def nvidia_files(driver: DriverFiles) -> list[DeviceFile]:
    """Through which a GPU on NVIDIA's driver can be held, those apart that sysfs lists below its function."""
    own = [] if driver.minor is None else [DeviceFile(f"nvidia{driver.minor}", NVIDIA_MAJOR, driver.minor)]
    return own + [
        DeviceFile(f"nvidia-caps/nvidia-cap{minor}", major, minor) for major, minor in driver.capabilities
    ]


def scan(sysfs: Sysfs, catalogue: Catalogue, proc: Path = Path("/proc")) -> tuple[Accelerator, ...]:
    """All GPUs of the catalogue on this node, by address. Reads sysfs and `proc`/driver only."""
    functions = {a: _read_function(sysfs, a) for a in sysfs.list_addresses()}
    ours = _cards(catalogue, functions)
    switched = any(catalogue.is_nvswitch(f.vendor_id, f.class_id) for f in functions.values())
    return tuple(
        _read_accelerator(sysfs, catalogue, functions, ours, address, switched, proc)
        for address in sorted(ours)
    )


def inspect(
    sysfs: Sysfs, catalogue: Catalogue, address: PciAddress, proc: Path = Path("/proc")
) -> Accelerator | None:
    """One GPU and its group, as `scan` sees them save for `nvswitch_domain`, which takes a look at the whole bus. None
    where the function is gone or is no GPU of the catalogue."""
    members = (address, *sysfs.list_group(address))
    functions = {a: _read_function(sysfs, a) for a in members if sysfs.exists(a)}
    ours = _cards(catalogue, functions)
    if address not in ours:
        return None
    return _read_accelerator(sysfs, catalogue, functions, ours, address, False, proc)


def read_mode(sysfs: Sysfs, catalogue: Catalogue, address: PciAddress) -> Mode | None:
    """`Accelerator.mode` by a look at its driver alone; None where it is gone or is no GPU of the catalogue, too."""
    function = _read_function(sysfs, address)
    vendor = catalogue.match(function.vendor_id, function.class_id)
    return _mode(function, vendor) if vendor is not None else None


def _mode(function: PciFunction, vendor: Vendor) -> Mode | None:
    if function.on_vfio:
        return Mode.PASSTHROUGH
    return Mode.SHARED if function.driver in vendor.host_drivers else None


def _cards(catalogue: Catalogue, functions: Mapping[PciAddress, PciFunction]) -> set[PciAddress]:
    """GPUs of the catalogue. A virtual function is a part of one, whatever it calls itself."""
    return {a for a, f in functions.items() if not f.virtual and catalogue.match(f.vendor_id, f.class_id)}


def _read_function(sysfs: Sysfs, address: PciAddress) -> PciFunction:
    sysfs, noted = sysfs.noting()
    found = PciFunction(
        address=address,
        vendor_id=sysfs.read_hex(address, "vendor"),
        device_id=sysfs.read_hex(address, "device"),
        class_id=sysfs.read_hex(address, "class")[:4],
        driver=sysfs.read_driver(address),
        virtual=sysfs.is_virtual(address),
        bridge=sysfs.is_bridge(address),
    )
    return replace(found, unreadable=noted.refused) if noted.refused else found


def _read_accelerator(
    sysfs: Sysfs,
    catalogue: Catalogue,
    functions: dict[PciAddress, PciFunction],
    ours: set[PciAddress],
    address: PciAddress,
    switched: bool,
    proc: Path,
) -> Accelerator:
    function = functions[address]
    vendor = catalogue.match(function.vendor_id, function.class_id)
    assert vendor is not None
    sysfs, noted = sysfs.noting()
    group = sysfs.read_iommu_group(address)
    card = address.rpartition(".")[0]
    companions: list[PciFunction] = []
    peers: list[PciFunction] = []
    strangers: list[PciFunction] = []
    members = sysfs.list_group(address)
    for member in members:
        other = functions.get(member)
        if other is None or member == address or other.bridge:
            continue
        if member in ours:
            peers.append(other)
        elif member.rpartition(".")[0] == card:
            companions.append(other)
        elif not other.may_stay:
            strangers.append(other)
    numa = sysfs.read_attribute(address, "numa_node")
    group_number = sysfs.read_vfio_group_device(group) if group is not None else None
    own = [DeviceFile(*entry) for entry in sysfs.list_character_devices(address)]
    files = [
        DeviceFile(*entry) for f in companions for entry in sysfs.list_character_devices(f.address)
    ] + own
    files_known = bool(own)
    driver_files = DriverFiles()
    if vendor.character_devices == "nvidia":
        driver_files = read_driver_files(sysfs.files, proc, address)
        files_known = driver_files.minor is not None
        files += nvidia_files(driver_files)
    if group_number is not None:
        files.append(DeviceFile(f"vfio/{group}", *group_number))
    answer = sysfs.read_vendor_from_config(address)
    found = Accelerator(
        function=function,
        vendor=vendor,
        iommu_group=group,
        companions=tuple(companions),
        peers=tuple(peers),
        strangers=tuple(strangers),
        numa_node=parse_number(numa or ""),
        boot_display=sysfs.read_attribute(address, "boot_vga") == "1",
        kernel_users=kernel_users(sysfs, vendor, address) if function.driver in vendor.host_drivers else (),
        off_bus=answer == ALL_ONES,
        answers=answer == function.vendor_id,
        virtual_functions=sysfs.count_virtual_functions(address),
        mediated_devices=sysfs.has_mediated_devices(address),
        nvswitch_domain="nvswitch" if switched and vendor.nvswitch_class else "",
        driver_uuid=driver_files.uuid,
        driver_minor=driver_files.minor,
        device_files=tuple(files),
        device_files_known=files_known,
        vfio_group_present=group_number is not None,
    )
    of_members = (functions[member].unreadable for member in (address, *members) if member in functions)
    unreadable = noted.refused or next(filter(None, of_members), "")
    return replace(found, unreadable=unreadable) if unreadable else found
