"""An NVIDIA-shaped node in words: what its GPUs are, and the files that NVIDIA's driver would show of them.

    shape = Shape(gpus=("0000:00:10.0", "0000:00:11.0"), mig={0: ("1g.10gb", "2g.20gb")}, render=True, masked=(1,))

Traits compose. The fake node (`tests/fake_nvidia.py`) and the emulated one (`e2e/node/shaped.py`) lay out the same
files from here (`shape_files.py`), so one reader sees the same on both. Nothing here reads or writes anything.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.node.shape_files import (
    ALL_ONES,
    CAPS_MAJOR,
    DRM_MAJOR,
    FIRST_RENDER_MINOR,
    NVIDIA_MAJOR,
    NVSWITCH,
    NVSWITCH_MAJOR,
    PARAMETERS,
    UNKNOWN_UUID,
    UVM_MAJOR,
    VERSION,
    DeviceFile,
    Folder,
    add_mdevs,
    capability_file,
    device_folder,
    identity,
    mig_minor,
    mig_minors,
)
from e2e.nvml.state import A100, DRIVER_VERSION, Model, gpu

NAMESPACE = uuid.UUID("a3d2a5f4-1f0c-4b8e-8f0e-2c9f3f6d7b11")  # arbitrary, fixed: UUIDs must not change


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
            files, config = identity("10de", device_id, pci_class)
            if self.console_on is not None:
                files["boot_vga"] = "1\n" if self.console_on == index else "0\n"
            links: dict[str, str] = {}
            if virtual := self.vfs.get(index):
                files |= {"sriov_numvfs": f"{len(virtual)}\n", "sriov_totalvfs": "16\n"}
                links |= {f"virtfn{number}": f"../{vf}" for number, vf in enumerate(virtual)}
            add_mdevs(files, links, self.mdev_uuids(index) if index in self.mdevs else None)
            driven = {}
            if self.render:
                minor = self.render_minor(index)
                driven[f"drm/renderD{minor}/dev"] = f"{DRM_MAJOR}:{minor}\n"
            off = index in self.off_bus
            folders.append(
                Folder(device_folder(address), address, files, links, driven, ALL_ONES if off else config)
            )
            for vf in self.vfs.get(index, ()):
                files, config = identity("10de", device_id, "030200")
                folders.append(
                    Folder(device_folder(vf), vf, files, {"physfn": f"../{address}"}, config=config)
                )
        for address in self.nvswitches:
            files, config = identity(*NVSWITCH)
            folders.append(Folder(device_folder(address), address, files, config=config))
        if made := {u: f"{device_folder(self.gpus[i])}/{u}" for i in self.mdevs for u in self.mdev_uuids(i)}:
            folders.append(Folder("/sys/bus/mdev/devices", links=made))
        return tuple(folders)
