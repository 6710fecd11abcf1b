"""What is laid over a folder of the kernel, without mounting it: the layer answers FUSE's questions by itself."""

import errno
import os
import struct
from pathlib import Path

import pytest

from e2e.node.guest import fuse
from e2e.node.guest.shapefs import Driver, Layer


class Kernel:
    """A PCI function's folder that stands for sysfs, and who asks about it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "0000:00:10.0"
        self.folder.mkdir()
        (self.folder / "vendor").write_text("0x1234\n")
        (self.folder / "driver_override").write_text("(null)\n")
        (self.folder / "config").write_bytes(bytes(range(64)))
        self.bind("bochs-drm")
        self.layer = Layer(str(self.folder))
        driver = Driver(str(self.folder), ["bochs-drm"])
        laid = {"files": {"vendor": "0x10de\n", "mdev_supported_types/a/name": "A\n"}, "config": "de10"}
        laid |= {"links": {"physfn": "../0000:00:11.0"}, "driven": {"drm/renderD384/dev": "226:384\n"}}
        self.layer.add(laid, driver)

    def bind(self, driver: str) -> None:
        (self.folder / "driver").symlink_to(f"../drivers/{driver}")

    def unbind(self) -> None:
        (self.folder / "driver").unlink()

    def lookup(self, path: str) -> int:
        node = fuse.ROOT
        for name in path.split("/"):
            node = struct.unpack_from("=Q", self.layer.answer(fuse.LOOKUP, node, name.encode() + b"\0"))[0]
        return node

    def read(self, node: int) -> bytes:
        opened = self.layer.answer(fuse.OPEN, node, struct.pack("=II", os.O_RDONLY, 0))
        (handle,) = struct.unpack_from("=Q", opened)
        question = fuse.READ_OR_WRITE.pack(handle, 0, 4096, 0, 0, 0, 0)
        text = self.layer.answer(fuse.READ, node, question)
        self.layer.answer(fuse.RELEASE, node, struct.pack("=Q", handle))
        return text


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_named_files_are_replaced_and_the_kernels_own_shine_through(kernel: Kernel) -> None:
    assert kernel.read(kernel.lookup("vendor")) == b"0x10de\n"
    assert kernel.read(kernel.lookup("driver_override")) == b"(null)\n"
    assert kernel.read(kernel.lookup("mdev_supported_types/a/name")) == b"A\n"
    assert kernel.layer.answer(fuse.READLINK, kernel.lookup("physfn"), b"") == b"../0000:00:11.0"
    names = [name for name, _ in kernel.layer.names("")]
    assert names == [
        "config", "driver", "driver_override", "drm", "mdev_supported_types", "physfn", "vendor",
    ]  # fmt: skip


def test_the_configuration_space_begins_as_told_and_goes_on_as_it_is(kernel: Kernel) -> None:
    found = kernel.read(kernel.lookup("config"))
    assert found == b"\xde\x10" + bytes(range(2, 64))


def test_writes_reach_the_kernel(kernel: Kernel) -> None:
    node = kernel.lookup("driver_override")
    opened = kernel.layer.answer(fuse.OPEN, node, struct.pack("=II", os.O_WRONLY, 0))
    (handle,) = struct.unpack_from("=Q", opened)
    question = fuse.READ_OR_WRITE.pack(handle, 0, 8, 0, 0, 0, 0) + b"vfio-pci"
    assert kernel.layer.answer(fuse.WRITE, node, question) == struct.pack("=II", 8, 0)
    kernel.layer.answer(fuse.RELEASE, node, struct.pack("=Q", handle))
    assert (kernel.folder / "driver_override").read_text().startswith("vfio-pci")


def test_what_is_laid_over_cannot_be_written(kernel: Kernel) -> None:
    with pytest.raises(OSError) as refused:
        kernel.layer.answer(fuse.OPEN, kernel.lookup("vendor"), struct.pack("=II", os.O_WRONLY, 0))
    assert refused.value.errno == errno.EACCES


def test_what_the_driver_made_goes_with_it_and_is_another_when_it_comes_back(kernel: Kernel) -> None:
    before = kernel.lookup("drm/renderD384/dev")
    assert kernel.read(before) == b"226:384\n"
    kernel.unbind()
    with pytest.raises(FileNotFoundError):
        kernel.lookup("drm/renderD384/dev")
    with pytest.raises(FileNotFoundError):
        kernel.layer.answer(fuse.GETATTR, before, b"")
    kernel.bind("vfio-pci")
    with pytest.raises(FileNotFoundError):
        kernel.lookup("drm")
    kernel.unbind()
    (kernel.folder / "other").touch()  # or the file system may use the old link's number again
    kernel.bind("bochs-drm")
    after = kernel.lookup("drm/renderD384/dev")
    assert kernel.read(after) == b"226:384\n"
    assert after != before
    with pytest.raises(FileNotFoundError):
        kernel.layer.answer(fuse.GETATTR, before, b"")
