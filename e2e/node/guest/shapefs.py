"""Lays files over the kernel's own folders, and makes character devices with numbers of one's choice.

`python -I -S shapefs.py SPEC` mounts each folder of SPEC (JSON, see `e2e/node/shaped.py`) over itself: what the kernel
shows there stays and is live, reads and writes go through to it; named files and links are put on top. Those that are
`driven` are there only while their PCI device is on a host driver, and whoever kept one open over a rebind has the old
one. Devices are CUSE's: a process can really open them, and the kernel has their numbers. Ends on SIGTERM.
"""

import errno
import json
import os
import signal
import stat
import struct
import sys
from typing import Any

if not __package__:  # run by its path, and isolated mode leaves its folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    import fuse
else:
    from e2e.node.guest import fuse


class Driver:
    """Whether a PCI device is on a host driver, by the kernel's folder below our own mount."""

    def __init__(self, folder: str, host_drivers: list[str]) -> None:
        self.folder = os.open(folder, os.O_PATH)
        self.host_drivers = host_drivers

    def binding(self) -> int:
        """A number of this binding, another after each rebind; 0 while on no host driver."""
        link = f"/proc/self/fd/{self.folder}/driver"
        try:
            if os.readlink(link).rpartition("/")[2] not in self.host_drivers:  # noqa: PTH115
                return 0
            return os.lstat(link).st_ino
        except OSError:
            return 0


class Layer:
    """One mounted folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.below = os.open(path, os.O_PATH | os.O_DIRECTORY)
        self.files: dict[str, tuple[bytes, Driver | None]] = {}
        self.links: dict[str, str] = {}
        self.config = b""
        self.nodes: dict[int, tuple[str, int]] = {fuse.ROOT: ("", 0)}
        self.numbers: dict[tuple[str, int], int] = {("", 0): fuse.ROOT}
        self.handles: dict[int, int] = {}

    def add(self, folder: dict[str, Any], driver: Driver | None) -> None:
        self.files |= {path: (text.encode(), None) for path, text in folder["files"].items()}
        self.files |= {path: (text.encode(), driver) for path, text in folder["driven"].items()}
        self.links |= folder["links"]
        self.config = bytes.fromhex(folder["config"]) or self.config

    # -- what is there ------------------------------------------------------------------------------------

    def real(self, path: str) -> str:
        return f"/proc/self/fd/{self.below}/{path}"

    def binding_of(self, path: str) -> int | None:
        """None if nothing laid over is there; 0 if it always is; else the binding that it belongs to."""
        found: int | None = None
        for name, (_, driver) in self.files.items():
            if name != path and not name.startswith(path + "/"):
                continue
            if driver is None:
                return 0
            if binding := driver.binding():
                found = binding
        if any(name == path or name.startswith(path + "/") for name in self.links):
            return 0
        return found

    def look(self, path: str) -> os.stat_result:
        """Raises FileNotFoundError."""
        laid = self.binding_of(path) is not None
        if laid and path in self.files:
            return made(stat.S_IFREG | 0o444, 4096)
        if laid and path in self.links:
            return made(stat.S_IFLNK | 0o777, len(self.links[path]))
        try:
            return os.lstat(self.real(path))
        except OSError:
            if laid:
                return made(stat.S_IFDIR | 0o555, 0)
            raise

    def names(self, path: str) -> list[tuple[str, int]]:
        """Entries of a folder with their types, as a directory has them (DT_*)."""
        head = f"{path}/" if path else ""
        found: dict[str, int] = {}
        try:
            for item in os.scandir(self.real(path)):
                found[item.name] = item.stat(follow_symlinks=False).st_mode >> 12
        except OSError:
            pass
        for name in (*self.files, *self.links):
            if name.startswith(head) and self.binding_of(name) is not None:
                first = name[len(head) :].partition("/")[0]
                found[first] = self.look(head + first).st_mode >> 12
        return sorted(found.items())

    # -- FUSE ---------------------------------------------------------------------------------------------

    def node(self, path: str) -> int:
        key = (path, 0 if exists(self.real(path)) else self.binding_of(path) or 0)
        if key not in self.numbers:
            self.numbers[key] = len(self.nodes) + 1
            self.nodes[self.numbers[key]] = key
        return self.numbers[key]

    def path_of(self, node: int) -> str:
        """Raises FileNotFoundError for what belonged to a binding that has ended."""
        path, binding = self.nodes[node]
        if binding and self.binding_of(path) != binding:
            raise FileNotFoundError(errno.ENOENT, path)
        return path

    def answer(self, opcode: int, node: int, rest: bytes) -> bytes:
        path = self.path_of(node) if opcode not in (fuse.RELEASE, fuse.STATFS) else ""
        if opcode == fuse.LOOKUP:
            name = rest.rstrip(b"\0").decode()
            path = f"{path}/{name}" if path else name
            found = self.look(path)
            number = self.node(path)
            return fuse.entry(number, fuse.attributes(found, number))
        if opcode in (fuse.GETATTR, fuse.SETATTR):  # truncating says nothing to sysfs
            return fuse.attr_answer(fuse.attributes(self.look(path), node))
        if opcode == fuse.READLINK:
            if path in self.links:
                return self.links[path].encode()
            return os.readlink(self.real(path)).encode()  # noqa: PTH115
        if opcode == fuse.OPENDIR:
            return fuse.open_answer(0, 0)
        if opcode == fuse.READDIR:
            _, offset, room, *_ = fuse.READ_OR_WRITE.unpack_from(rest)
            return fuse.directory(self.names(path), offset, room)
        if opcode == fuse.OPEN:
            return fuse.open_answer(self.open(path, struct.unpack_from("=I", rest)[0]))
        if opcode == fuse.RELEASE:
            (handle,) = struct.unpack_from("=Q", rest)
            if handle:
                os.close(handle)
            return b""
        if opcode == fuse.READ:
            handle, offset, size, *_ = fuse.READ_OR_WRITE.unpack_from(rest)
            return self.read(path, handle, offset, size)
        if opcode == fuse.WRITE:
            handle, offset, size, *_ = fuse.READ_OR_WRITE.unpack_from(rest)
            data = rest[fuse.READ_OR_WRITE.size :][:size]
            return struct.pack("=II", os.pwrite(handle, data, offset), 0)
        raise OSError(errno.ENOSYS, "not needed")

    def open(self, path: str, flags: int) -> int:
        """A descriptor of the kernel's file; 0 for one that is laid over."""
        if path in self.files:
            if flags & (os.O_WRONLY | os.O_RDWR):
                raise OSError(errno.EACCES, path)
            return 0
        return os.open(self.real(path), flags & (os.O_WRONLY | os.O_RDWR))

    def read(self, path: str, handle: int, offset: int, size: int) -> bytes:
        if not handle:
            return self.files[path][0][offset : offset + size]
        found = os.pread(handle, size, offset)
        if path == "config" and self.config[offset:]:
            over = self.config[offset : offset + len(found)]
            found = over + found[len(over) :]
        return found


def exists(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def made(mode: int, size: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))


def device_answer(opcode: int, _node: int, _rest: bytes) -> bytes:
    """A device that can be opened, reads as empty and swallows what is written."""
    if opcode == fuse.OPEN:
        return fuse.open_answer(0)
    if opcode in (fuse.READ, fuse.RELEASE):
        return b""
    if opcode == fuse.WRITE:
        _, _, size, *_ = fuse.READ_OR_WRITE.unpack_from(_rest)
        return struct.pack("=II", size, 0)
    raise OSError(errno.ENOTTY, "no such question")


def main() -> None:
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are threads, which inherit it
    with open(sys.argv[1]) as file:  # noqa: PTH123
        spec = json.load(file)
    addresses = {folder["device"] for folder in spec["folders"] if folder["device"]}
    pci = "/sys/bus/pci/devices"
    drivers = {address: Driver(f"{pci}/{address}", spec["host_drivers"]) for address in addresses}
    layers: dict[str, Layer] = {}
    for folder in spec["folders"]:
        path = folder["path"]
        if path not in layers:
            layers[path] = Layer(path)
        layers[path].add(folder, drivers.get(folder["device"]))
    for device in spec["devices"]:
        name = device["path"].removeprefix("/dev/")
        cuse = os.open("/dev/cuse", os.O_RDWR | os.O_CLOEXEC)
        number = (device["major"], device["minor"])
        fuse.serve(cuse, device_answer, f"DEVNAME={name}".encode() + b"\0", number)
    for layer in layers.values():
        fuse.serve(fuse.mount(layer.path), layer.answer)
    print("ready", flush=True)
    signal.sigwait(ends)
    for path in layers:
        fuse.unmount(path)


if __name__ == "__main__":
    main()
