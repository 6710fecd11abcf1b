"""An NVIDIA-shaped node in words: what its GPUs are, and the files that NVIDIA's driver would show of them.

    shape = Shape(gpus=("0000:00:10.0", "0000:00:11.0"), mig={0: ("1g.10gb", "2g.20gb")}, render=True, masked=(1,))

Traits compose. The fake node (`tests/fake_nvidia.py`) and the emulated one (`e2e/node/shaped.py`) lay out the same
files from here, so one reader sees the same on both. Nothing here reads or writes anything.

Sources: NVIDIA's MIG User Guide ("Device Nodes and Capabilities") for /dev/nvidia-caps and the capabilities; the Linux
driver's README for the device files; /proc/driver/nvidia/gpus/*/information as 535 to 580 print it; the kernel's
Documentation/driver-api/vfio-mediated-device.rst and ABI/testing/sysfs-bus-pci for mdev and SR-IOV.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.nvml.state import A100, DRIVER_VERSION, Model, gpu

NVIDIA_MAJOR = 195
"""Of /dev/nvidia<minor>, nvidiactl and nvidia-modeset: fixed in Linux' devices.txt."""
UVM_MAJOR, CAPS_MAJOR, NVSWITCH_MAJOR = 508, 236, 235
"""Dynamic on a real node; a reader has to look them up in /proc/devices."""
DRM_MAJOR = 226
FIRST_RENDER_MINOR = 384
"""128 on most nodes; the emulated kernel's DRM core has all below 256 for itself, and newer kernels go beyond."""
NVSWITCH = ("10de", "22a3", "068000")
"""Vendor, device and class of an H100 board's NVSwitch."""
NAMESPACE = uuid.UUID("a3d2a5f4-1f0c-4b8e-8f0e-2c9f3f6d7b11")  # arbitrary, fixed: UUIDs must not change
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


@dataclass(frozen=True)
class MigDevice:
    """A compute instance that fills its GPU instance."""

    gpu: int
    gi: int
    profile: str
    uuid: str

    @property
    def memory_mib(self) -> int:
        return int(self.profile.partition(".")[2].removesuffix("gb")) * 1024


@dataclass(frozen=True)
class Shape:
    """Traits of a node. GPUs are counted from 0 in the order of `gpus`, which is that of their minor numbers."""

    gpus: tuple[str, ...]
    """PCI addresses."""
    model: Model = A100
    host_driver: str = "nvidia"
    drivers: Mapping[int, str] = field(default_factory=dict)
    """GPU → its host driver where that is another."""
    known: bool = True
    """The driver has been asked since it loaded: before, no UUID is shown (persistence mode off, no client yet)."""
    mig: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """GPU → profiles of its GPU instances; a GPU with an empty tuple is in MIG mode and undivided."""
    render: bool = False
    """nvidia-drm shows render nodes."""
    vfs: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """GPU → addresses of its SR-IOV virtual functions (a vGPU host)."""
    mdevs: Mapping[int, int] = field(default_factory=dict)
    """GPU → how many mediated devices (vGPUs before SR-IOV) are made on it."""
    nvswitches: tuple[str, ...] = ()
    console_on: int | None = None
    """The GPU whose frame buffer is the node's graphics console."""
    off_bus: frozenset[int] = frozenset()
    masked: tuple[int, ...] | None = None
    """A container runtime mounted a tmpfs over /proc/driver/nvidia and put in these GPUs, those that were on their
    driver then. A GPU that leaves goes out of it and never comes back into it."""

    # -- GPUs ---------------------------------------------------------------------------------------------

    @property
    def host_drivers(self) -> tuple[str, ...]:
        return tuple(sorted({self.host_driver, *self.drivers.values()}))

    def driver_of(self, index: int) -> str:
        return self.drivers.get(index, self.host_driver)

    def uuid_of(self, index: int) -> str:
        return f"GPU-{uuid.uuid5(NAMESPACE, self.gpus[index])}"

    def mig_devices(self, index: int) -> tuple[MigDevice, ...]:
        """GPU instances are numbered from 1: 0 is the whole GPU's."""
        return tuple(
            MigDevice(index, gi, profile, f"MIG-{uuid.uuid5(NAMESPACE, f'{self.gpus[index]}/{gi}')}")
            for gi, profile in enumerate(self.mig.get(index, ()), start=1)
        )

    def mdev_uuids(self, index: int) -> tuple[str, ...]:
        return tuple(
            str(uuid.uuid5(NAMESPACE, f"{self.gpus[index]}/mdev{number}"))
            for number in range(self.mdevs.get(index, 0))
        )

    def render_minor(self, index: int) -> int:
        return FIRST_RENDER_MINOR + index

    def nvml(self, index: int) -> str:
        """The GPU's section of NVML's state file."""
        lines = f"mig = {'on' if index in self.mig else 'off'}\n" if self.model.has_mig else ""
        for device in self.mig_devices(index):
            lines += (
                f"mig_device = gi={device.gi} ci=0 profile={device.profile} memory_mib={device.memory_mib} "
                f"uuid={device.uuid}\n"
            )
        if index in self.off_bus:
            lines += "state = lost\nevent = 1 xid 79\n"
        return gpu(self.gpus[index], self.uuid_of(index), self.model, minor=index, lines=lines)

    # -- /dev ---------------------------------------------------------------------------------------------

    def device_files(self) -> tuple[DeviceFile, ...]:
        found = [
            DeviceFile("/dev/nvidiactl", NVIDIA_MAJOR, 255),
            DeviceFile("/dev/nvidia-modeset", NVIDIA_MAJOR, 254),
            DeviceFile("/dev/nvidia-uvm", UVM_MAJOR, 0),
            DeviceFile("/dev/nvidia-uvm-tools", UVM_MAJOR, 1),
        ]
        for index in range(len(self.gpus)):
            found.append(DeviceFile(f"/dev/nvidia{index}", NVIDIA_MAJOR, index))
            if self.render:
                minor = self.render_minor(index)
                found.append(DeviceFile(f"/dev/dri/renderD{minor}", DRM_MAJOR, minor))
        found += [
            DeviceFile(f"/dev/nvidia-caps/nvidia-cap{minor}", CAPS_MAJOR, minor)
            for minor in sorted(self._capabilities().values())
        ]
        for number in range(len(self.nvswitches)):
            found.append(DeviceFile(f"/dev/nvidia-nvswitch{number}", NVSWITCH_MAJOR, number))
        if self.nvswitches:
            found.append(DeviceFile("/dev/nvidia-nvswitchctl", NVSWITCH_MAJOR, 255))
        return tuple(found)

    def majors(self) -> tuple[tuple[int, str], ...]:
        """Lines of /proc/devices."""
        found = [(NVIDIA_MAJOR, name) for name in ("nvidia", "nvidia-modeset", "nvidiactl")]
        found += [(CAPS_MAJOR, "nvidia-caps"), (UVM_MAJOR, "nvidia-uvm")]
        return tuple(found + ([(NVSWITCH_MAJOR, "nvidia-nvswitch")] if self.nvswitches else []))

    # -- /proc/driver -------------------------------------------------------------------------------------

    def proc_folders(self) -> tuple[Folder, ...]:
        """One that is there while the driver is loaded, and one for each GPU."""
        general = {
            "nvidia/version": VERSION,
            "nvidia/params": PARAMETERS,
            "nvidia-caps/mig-minors": mig_minors(),
        }
        general |= {
            f"nvidia/capabilities/{path}": capability_file(minor)
            for path, minor in self._capabilities().items()
            if path.startswith("mig/")
        }
        folders = [Folder("/proc/driver", files=general)]
        for index, address in enumerate(self.gpus):
            driven = {f"nvidia/gpus/{address}/information": self.information(index)}
            driven |= {
                f"nvidia/capabilities/{path}": capability_file(minor)
                for path, minor in self._capabilities().items()
                if path.startswith(f"gpu{index}/")
            }
            folders.append(Folder("/proc/driver", device=address, driven=driven))
        return tuple(folders)

    def information(self, index: int) -> str:
        """/proc/driver/nvidia/gpus/<address>/information."""
        return (
            f"Model: \t\t {self.model.name}\nIRQ:   \t\t {64 + index}\n"
            f"GPU UUID: \t {self.uuid_of(index) if self.known else UNKNOWN_UUID}\n"
            f"Video BIOS: \t {'92.00.36.00.01' if self.known else '??.??.??.??.??'}\n"
            "Bus Type: \t PCIe\nDMA Size: \t 47 bits\nDMA Mask: \t 0x7fffffffffff\n"
            f"Bus Location: \t {self.gpus[index]}\nDevice Minor: \t {index}\n"
            f"GPU Firmware: \t {DRIVER_VERSION if self.known else 'N/A'}\nGPU Excluded:\t No\n"
        )

    def _capabilities(self) -> dict[str, int]:
        """Path below /proc/driver/nvidia/capabilities → minor of /dev/nvidia-caps/nvidia-cap<minor>."""
        found = {"mig/config": 1, "mig/monitor": 2}
        for index in self.mig:
            for device in self.mig_devices(index):
                folder = f"gpu{index}/mig/gi{device.gi}"
                found[f"{folder}/access"] = mig_minor(index, device.gi)
                found[f"{folder}/ci0/access"] = mig_minor(index, device.gi, 0)
        return found

    # -- /sys ---------------------------------------------------------------------------------------------

    def sysfs_folders(self) -> tuple[Folder, ...]:
        """One for each PCI function that is shaped, and what lies beside them."""
        folders: list[Folder] = []
        device_id = self.model.pci_device_id[:4]
        for index, address in enumerate(self.gpus):
            pci_class = "030000" if self.console_on == index else "030200"
            files, config = _identity("10de", device_id, pci_class)
            if self.console_on is not None:
                files["boot_vga"] = "1\n" if self.console_on == index else "0\n"
            links: dict[str, str] = {}
            if virtual := self.vfs.get(index):
                files |= {"sriov_numvfs": f"{len(virtual)}\n", "sriov_totalvfs": "16\n"}
                links |= {f"virtfn{number}": f"../{vf}" for number, vf in enumerate(virtual)}
            _add_mdevs(files, links, self.mdev_uuids(index) if index in self.mdevs else None)
            driven = {}
            if self.render:
                minor = self.render_minor(index)
                driven[f"drm/renderD{minor}/dev"] = f"{DRM_MAJOR}:{minor}\n"
            off = index in self.off_bus
            folders.append(
                Folder(_device(address), address, files, links, driven, ALL_ONES if off else config)
            )
            for vf in self.vfs.get(index, ()):
                files, config = _identity("10de", device_id, "030200")
                folders.append(Folder(_device(vf), vf, files, {"physfn": f"../{address}"}, config=config))
        for address in self.nvswitches:
            files, config = _identity(*NVSWITCH)
            folders.append(Folder(_device(address), address, files, config=config))
        if made := {u: f"{_device(self.gpus[i])}/{u}" for i in self.mdevs for u in self.mdev_uuids(i)}:
            folders.append(Folder("/sys/bus/mdev/devices", links=made))
        return tuple(folders)


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


def _device(address: str) -> str:
    return f"/sys/bus/pci/devices/{address}"


def _identity(vendor: str, device: str, pci_class: str) -> tuple[dict[str, str], bytes]:
    """The files that name a function, and the beginning of its configuration space."""
    files = {"vendor": f"0x{vendor}\n", "device": f"0x{device}\n", "class": f"0x{pci_class}\n"}
    config = bytes.fromhex(vendor)[::-1] + bytes.fromhex(device)[::-1]
    return files, config


MDEV_TYPE = "nvidia-558"
MDEV_ROOM = 4


def _add_mdevs(files: dict[str, str], links: dict[str, str], made: tuple[str, ...] | None) -> None:
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
