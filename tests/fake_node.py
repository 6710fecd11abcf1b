"""A node in a folder: sysfs and proc as files, and a kernel that answers writes as Linux does.

The agent's own code reads the files; only writes come here. What it does is held to the real kernel by
`tests/rebind_contract.py`, which runs against this and, in the emulated node, against the real one.
"""

import errno
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poolmgr.agent.files import PAGE_BYTES, DeviceNumber, KernelFiles
from poolmgr.agent.kernelwrite import WriteOutcome
from poolmgr.domain.identifiers import PciAddress
from poolmgr.kit.clock import Clock

VFIO_MAJOR = 243
DRM_MAJOR = 226


class Crash(BaseException):
    """The agent's process ends here. Not an Exception: nothing may catch it."""


class Tripwire:
    """Counts what the agent does to the world and can end it at the Nth point, before or after the effect."""

    def __init__(self) -> None:
        self.points = 0
        self.crash_at: int | None = None
        self.dead = False
        self.trace: list[str] = []

    def pass_by(self, what: str) -> None:
        if self.dead:
            raise Crash  # a dead process does nothing more, not even in its `finally`
        self.points += 1
        self.trace.append(what)
        if self.points == self.crash_at:
            self.dead = True
            raise Crash

    def revive(self) -> None:
        self.dead = False
        self.crash_at = None


@dataclass
class Device:
    address: str
    vendor: str
    device: str
    pci_class: str
    group: int
    host_driver: str
    driver: str = ""
    override: str = ""
    numa: int = -1


@dataclass
class Faults:
    """What goes wrong, by the number of the write (from 1) or by its kind."""

    fail_write: dict[int, int] = field(default_factory=dict)
    hang_write: set[int] = field(default_factory=set)
    hang_unbind_of: set[str] = field(default_factory=set)
    probe_binds_nothing: set[str] = field(default_factory=set)
    """"<address> <driver>": the probe succeeds and the device stays bare."""


class FakeFiles(KernelFiles):
    """The node's folder; device numbers are the fake kernel's, as only root could make device files. What `refused` says yes
    to cannot be read, as where a security module stops even root."""

    def __init__(
        self,
        number: Callable[[str], DeviceNumber | None],
        refused: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self.number = number  # type: ignore[method-assign]
        self._refused = refused

    def read(self, path: str, at_most: int = PAGE_BYTES) -> bytes:
        return super().read(self._allowed(path), at_most)

    def entries(self, folder: str) -> list[str]:
        return super().entries(self._allowed(folder))

    def folders(self, folder: str) -> list[str]:
        return super().folders(self._allowed(folder))

    def target(self, link: str) -> str:
        return super().target(self._allowed(link))

    def _allowed(self, path: str) -> str:
        if self._refused(path):
            raise PermissionError(errno.EACCES, "a security module says no", path)
        return path


class FakeNode:
    """Devices, processes and the kernel's answers. `violations` lists what must never happen."""

    def __init__(self, root: Path, tripwire: Tripwire | None = None) -> None:
        self.sys = root / "sys"
        self.proc = root / "proc"
        self.state_dir = root / "state"
        self.tripwire = tripwire or Tripwire()
        self.faults = Faults()
        self.devices: dict[str, Device] = {}
        self.drivers: set[str] = set()
        self.writes: list[str] = []
        self.hung: set[str] = set()
        self.offered: set[str] = set()
        self.given: dict[str, str] = {}
        self.violations: list[str] = []
        self.followers: list[Callable[[Device], None]] = []
        """Told of every device that was bound or unbound: other drivers' files (`fake_nvidia.py`)."""
        self.device_files: dict[str, str] = {}
        """Device file that is not below its PCI function in sysfs → address of the GPU behind it."""
        self._boots = itertools.count(1)
        self._pids = itertools.count(100)
        self._numbers: dict[str, tuple[int, int]] = {}
        (self.sys / "bus/pci/devices").mkdir(parents=True)
        (self.sys / "bus/pci/drivers_probe").touch()
        self.proc.mkdir(parents=True)
        (self.proc / "sys/kernel/random").mkdir(parents=True)
        self.files = FakeFiles(self.number)
        self._new_boot_id()
        for driver in ("vfio-pci", "bochs-drm", "nvidia", "snd_hda_intel"):
            self.add_driver(driver)

    # -- building the node -------------------------------------------------------------------------------

    def add_driver(self, name: str) -> None:
        self.drivers.add(name)
        (self.sys / "bus/pci/drivers" / name).mkdir(parents=True, exist_ok=True)

    def add_device(
        self,
        address: str,
        *,
        vendor: str = "1234",
        device: str = "1111",
        pci_class: str = "038000",
        group: int | None = None,
        host_driver: str = "bochs-drm",
        driver: str | None = None,
        numa: int = -1,
    ) -> Device:
        group = len(self.devices) + 1 if group is None else group
        made = Device(address, vendor, device, pci_class, group, host_driver, numa=numa)
        self.devices[address] = made
        folder = self._folder(address)
        folder.mkdir()
        for name, text in {
            "vendor": f"0x{vendor}",
            "device": f"0x{device}",
            "class": f"0x{pci_class}",
            "numa_node": str(numa),
            "driver_override": "(null)",
        }.items():
            (folder / name).write_text(text + "\n")
        (folder / "config").write_bytes(bytes.fromhex(vendor)[::-1] + bytes.fromhex(device)[::-1])
        members = self.sys / f"kernel/iommu_groups/{group}/devices"
        members.mkdir(parents=True, exist_ok=True)
        (members / address).symlink_to(folder)
        (folder / "iommu_group").symlink_to(members.parent)
        self._bind(made, host_driver if driver is None else driver)
        return made

    def add_device_file(self, path: str, major: int, minor: int, address: str = "") -> None:
        """A device file, of the GPU at `address` or of none."""
        self._numbers[path] = (major, minor)
        if address:
            self.device_files[path] = address

    def start_process(self, path: str, *, command: str = "qemu", pod_uid: str = "") -> int:
        """A process that has the device file open."""
        pid = next(self._pids)
        folder = self.proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(command + "\n")
        cgroup = f"/kubepods/besteffort/pod{pod_uid}/abc" if pod_uid else "/user.slice"
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
        (folder / "fd/0").symlink_to("/dev/null")
        (folder / "fd/7").symlink_to(path)
        return pid

    def end_process(self, pid: int) -> None:
        shutil.rmtree(self.proc / str(pid))

    def holders_of(self, address: str) -> list[str]:
        files = self._files() | self.device_files
        mine = {path for path, owner in files.items() if owner == address}
        return [
            str(link.readlink()) for link in self.proc.glob("[0-9]*/fd/*") if str(link.readlink()) in mine
        ]

    def number(self, path: str) -> tuple[int, int] | None:
        """Stands in for `stat` on an open device file."""
        return self._numbers.get(str(Path(path).readlink()))

    def remove_from_bus(self, address: str) -> None:
        device = self.devices.pop(address)
        self._unbind(device)
        (self.sys / f"kernel/iommu_groups/{device.group}/devices" / address).unlink()
        shutil.rmtree(self._folder(address))

    def reboot(self) -> None:
        """Every process and reservation is gone, every device is back on the driver that loads first."""
        for pid in self.proc.glob("[0-9]*"):
            shutil.rmtree(pid)
        self.hung.clear()
        self.offered.clear()
        self.given.clear()
        for device in self.devices.values():
            device.override = ""
            self._unbind(device)
            self._bind(device, device.host_driver)
        self._new_boot_id()

    @property
    def boot_id(self) -> str:
        return (self.proc / "sys/kernel/random/boot_id").read_text().strip()

    def driver_of(self, address: str) -> str:
        return self.devices[address].driver

    # -- the kernel: KernelWriter ------------------------------------------------------------------------

    def prepare(self) -> None:
        """This kernel has no processes to start."""

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        name = path.name
        address = text if name in ("unbind", "drivers_probe") else path.parent.name
        assert about == address
        what = f"{name} {address} {text if name == 'driver_override' else ''}".strip()
        self.tripwire.pass_by(f"before {what}")
        self.writes.append(what)
        if address in self.hung:
            self.violations.append(f"{what}: the device's lock is held by a hung write")
        if address not in self.devices or (name == "unbind" and not self.devices[address].driver):
            return WriteOutcome(error_number=errno.ENOENT)
        number = len(self.writes)
        if number in self.faults.fail_write:
            return WriteOutcome(error_number=self.faults.fail_write[number])
        device = self.devices[address]
        if number in self.faults.hang_write or (name == "unbind" and address in self.faults.hang_unbind_of):
            self._hang(name, device)
            return WriteOutcome(timed_out=True)
        self._obey(name, device, text)
        self.tripwire.pass_by(f"after {what}")
        return WriteOutcome()

    def in_flight(self) -> frozenset[PciAddress]:
        return frozenset(self.hung)

    def _obey(self, name: str, device: Device, text: str) -> None:
        if name == "driver_override":
            device.override = text
            (self._folder(device.address) / name).write_text((text or "(null)") + "\n")
        elif name == "unbind":
            self._judge_unbind(device)
            self._unbind(device)
        elif not device.driver:
            driver = device.override or device.host_driver
            if driver in self.drivers and f"{device.address} {driver}" not in self.faults.probe_binds_nothing:
                self._bind(device, driver)

    def _judge_unbind(self, device: Device) -> None:
        held = self.holders_of(device.address)
        if held:
            self.violations.append(f"unbound {device.address} while {held} were open")
        if device.address in self.offered:
            self.violations.append(f"unbound {device.address} while it was offered to the kubelet")
        if device.address in self.given:
            self.violations.append(f"unbound {device.address} while {self.given[device.address]} had it")

    def _hang(self, name: str, device: Device) -> None:
        """As Linux does: the driver link goes first, then the driver's remove function never returns."""
        if name == "unbind":
            self._judge_unbind(device)
            self._unbind(device)
        self.hung.add(device.address)

    def _bind(self, device: Device, driver: str) -> None:
        if not driver:
            return
        device.driver = driver
        folder = self._folder(device.address)
        bound = self.sys / "bus/pci/drivers" / driver
        (folder / "driver").symlink_to(bound)
        (bound / "unbind").touch()
        if driver == "vfio-pci":
            self._make_device_file(
                self.sys / f"class/vfio/{device.group}", f"/dev/vfio/{device.group}", VFIO_MAJOR, device.group
            )
        elif driver == "bochs-drm":
            minor = int(device.address[8:10], 16)
            self._make_device_file(folder / f"drm/card{minor}", f"/dev/dri/card{minor}", DRM_MAJOR, minor)
        self._tell(device)

    def _tell(self, device: Device) -> None:
        for follower in self.followers:
            follower(device)

    def _unbind(self, device: Device) -> None:
        folder = self._folder(device.address)
        was, device.driver = device.driver, ""
        (folder / "driver").unlink(missing_ok=True)
        shutil.rmtree(folder / "drm", ignore_errors=True)
        if was == "vfio-pci" and not any(
            d.driver == "vfio-pci" and d.group == device.group for d in self.devices.values()
        ):
            shutil.rmtree(self.sys / f"class/vfio/{device.group}", ignore_errors=True)
        self._tell(device)

    def _files(self) -> dict[str, str]:
        """Device file → address of the GPU behind it."""
        files = {}
        for device in self.devices.values():
            if device.driver == "vfio-pci":
                files[f"/dev/vfio/{device.group}"] = device.address
            elif device.driver == "bochs-drm":
                files[f"/dev/dri/card{int(device.address[8:10], 16)}"] = device.address
        return files

    def _make_device_file(self, folder: Path, name: str, major: int, minor: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dev").write_text(f"{major}:{minor}\n")
        self._numbers[name] = (major, minor)

    def _folder(self, address: str) -> Path:
        return self.sys / "bus/pci/devices" / PciAddress(address)

    def _new_boot_id(self) -> None:
        boot_id = f"00000000-0000-0000-0000-{next(self._boots):012d}"
        (self.proc / "sys/kernel/random/boot_id").write_text(boot_id + "\n")


class FakeClock(Clock):
    """Time that passes only when somebody sleeps."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def gpu_node_body(name: str = "node-1") -> dict[str, Any]:
    """A GPUNode as the API server first returns it."""
    return {"metadata": {"name": name, "generation": 1, "resourceVersion": "1"}, "spec": {}}
