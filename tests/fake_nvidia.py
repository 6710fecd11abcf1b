"""NVIDIA's driver on the fake node: the files of a `Shape` in the node's folder, following the fake kernel."""

import shutil
from pathlib import Path

from e2e.node.shape import Shape
from e2e.node.shape_files import Folder
from tests.fake_node import Device, FakeNode

MASKED = ("nvidia/version", "nvidia/params")
"""What a container runtime copies into the tmpfs that it mounts over /proc/driver/nvidia; it adds GPUs' folders."""


class FakeNvidia:
    """Lays a shape over a fake node, as `e2e.node.shaped.ShapedNode` does over the emulated one."""

    def __init__(self, node: FakeNode, shape: Shape) -> None:
        self.node = node
        self.shape = shape
        self._hidden: set[str] = set()
        """Addresses that a mask keeps out of /proc/driver/nvidia."""
        for driver in (*shape.host_drivers, "nvidia-nvswitch"):
            node.add_driver(driver)
        for index, address in enumerate(shape.gpus):
            self._ensure_device(address, shape.driver_of(index))
            for vf in shape.vfs.get(index, ()):
                self._ensure_device(vf, shape.driver_of(index))
        for address in shape.nvswitches:
            self._ensure_device(address, "nvidia-nvswitch")
        self.lay(shape)
        node.followers.append(self._follow)

    def lay(self, shape: Shape) -> None:
        """The same hardware in another shape: MIG switched on, a mask put over /proc, a GPU off the bus."""
        shutil.rmtree(self.node.proc / "driver", ignore_errors=True)
        self.shape = shape
        self._hidden = set()
        if shape.masked is not None:
            self._hidden = {a for i, a in enumerate(shape.gpus) if i not in shape.masked}
        for file in shape.device_files():
            self.node.add_device_file(file.path, file.major, file.minor, self._owner(file.path))
        (self.node.proc / "devices").write_text(
            "Character devices:\n" + "".join(f"{major:3} {name}\n" for major, name in shape.majors())
        )
        for folder in (*shape.sysfs_folders(), *shape.proc_folders()):
            self._lay_folder(folder)
        self._lay_console()

    def _ensure_device(self, address: str, host_driver: str) -> None:
        if address not in self.node.devices:
            self.node.add_device(address, host_driver=host_driver)

    def _owner(self, path: str) -> str:
        for index, address in enumerate(self.shape.gpus):
            if path in (f"/dev/nvidia{index}", f"/dev/dri/renderD{self.shape.render_minor(index)}"):
                return address
        return ""

    def _root(self, path: str) -> Path:
        """Where a path below /sys or /proc lies in the node's folder."""
        return self.node.sys.parent / path.lstrip("/")

    def _lay_folder(self, folder: Folder) -> None:
        base = self._root(folder.path)
        for path, text in folder.files.items():
            if self.shape.masked is None or not path.startswith("nvidia/"):
                _write(base / path, text)
            elif path in MASKED:
                _write(base / path, text.replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0"))
        for path, target in folder.links.items():
            link = base / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(self._root(target) if target.startswith("/") else target)
        if folder.config:
            (base / "config").write_bytes(folder.config)
        if folder.device:
            self._lay_driven(folder, self.node.driver_of(folder.device))

    def _lay_driven(self, folder: Folder, driver: str) -> None:
        base = self._root(folder.path)
        masked = self.shape.masked is not None and folder.path == "/proc/driver"
        for path, text in folder.driven.items():
            hidden = masked and (folder.device in self._hidden or not path.startswith("nvidia/gpus/"))
            if driver in self.shape.host_drivers and not hidden:
                _write(base / path, text)
            elif (base / path).exists():
                _remove(base / path, base)

    def _follow(self, device: Device) -> None:
        if device.address in self.shape.gpus and self.shape.masked is not None and not device.driver:
            self._hidden.add(device.address)  # it never comes back into the mask
        for folder in (*self.shape.sysfs_folders(), *self.shape.proc_folders()):
            if folder.device == device.address:
                self._lay_driven(folder, device.driver)

    def _lay_console(self) -> None:
        """The frame buffer's console, which on the emulated node is the kernel's own."""
        if self.shape.console_on is None:
            return
        gpu = self.node.sys / "bus/pci/devices" / self.shape.gpus[self.shape.console_on]
        _write(gpu / "graphics/fb0/dev", "29:0\n")
        _link(gpu / "graphics/fb0/device", gpu)
        _link(self.node.sys / "class/graphics/fb0", gpu / "graphics/fb0")
        for number, name, bound in ((0, "(S) VGA+", 0), (1, "(M) frame buffer device", 1)):
            console = self.node.sys / f"class/vtconsole/vtcon{number}"
            _write(console / "name", f"{name}\n")
            _write(console / "bind", f"{bound}\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target)


def _remove(path: Path, base: Path) -> None:
    """With the folders above it that are empty then."""
    path.unlink()
    for folder in path.parents:
        if folder == base or any(folder.iterdir()):
            return
        folder.rmdir()
