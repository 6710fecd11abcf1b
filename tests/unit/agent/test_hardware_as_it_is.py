"""Hardware and kernel as users have them, from sysfs to what the agent reports and does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode, Step
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import FakeFiles, FakeNode

A, B = "0000:3b:00.0", "0000:5e:00.0"
GROUP = 7


class Bench:
    """One NVIDIA GPU that everything is known of."""

    def __init__(self, folder: Path) -> None:
        self.node = FakeNode(folder)
        self.add_gpu(A, minor=0)
        self.under = AgentUnderTest(self.node, {A: "GPU-a", B: "GPU-b"})

    def add_gpu(self, address: str, *, minor: int, **more: str | int) -> None:
        kind: dict[str, str | int] = {
            "vendor": "10de",
            "device": "2236",
            "pci_class": "030200",
            "group": GROUP + minor,
        }
        self.node.add_device(address, host_driver="nvidia", **{**kind, **more})  # type: ignore[arg-type]
        self.node.add_device_file(f"/dev/nvidia{minor}", 195, minor, address)
        self.write(
            self.node.proc / "driver/nvidia/gpus" / address / "information", f"Device Minor: \t {minor}\n"
        )

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def folder(self, address: str = A) -> Path:
        return self.node.sys / "bus/pci/devices" / PciAddress(address)

    def set_header(self, address: str, kind: int) -> None:
        """Of the configuration space: 0 is an endpoint's, 1 a bridge's."""
        raw = (self.folder(address) / "config").read_bytes()[:4].ljust(64, b"\0")
        (self.folder(address) / "config").write_bytes(raw[:14] + bytes([kind]) + raw[15:])

    async def verdict(self, address: str = A) -> tuple[bool, str, str]:
        """What the standing answer says of the GPU: possible, reason, sentence."""
        await self.under.passes(2)
        said = self.under.api.device(address)["rebind"]
        return said["possible"], said["reason"], said["message"]

    async def ordered(self, address: str = A) -> str:
        """The GPU's driver after a manager asked for it in passthrough all the same."""
        self.under.api.want({address: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[address])
        await self.under.passes(4)
        return self.node.driver_of(address)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_gpu_in_nobodys_way_moves(bench: Bench) -> None:
    assert (await bench.verdict())[0]
    assert await bench.ordered() == "vfio-pci"


# -- parts of the card ------------------------------------------------------------------------------------


async def test_a_physical_function_with_virtual_ones_stays_and_they_are_no_cards(bench: Bench) -> None:
    bench.write(bench.folder() / "sriov_numvfs", "2\n")
    for number in (4, 5):
        address = f"0000:3b:00.{number}"
        bench.add_gpu(address, minor=number)
        (bench.folder(address) / "physfn").symlink_to(bench.folder())
    possible, reason, _ = await bench.verdict()
    assert (possible, reason) == (False, "SriovActive")
    assert [d["pciAddress"] for d in bench.under.api.body["status"]["devices"]] == [A]
    assert await bench.ordered() == "nvidia"
    assert bench.node.writes == []


@pytest.mark.parametrize("count", [None, "0\n"])
async def test_virtual_functions_that_only_links_tell_of_keep_the_card(
    bench: Bench, count: str | None
) -> None:
    if count is not None:
        bench.write(bench.folder() / "sriov_numvfs", count)
    (bench.folder() / "virtfn0").symlink_to("../0000:3b:00.4")
    assert (await bench.verdict())[:2] == (False, "SriovActive")
    assert await bench.ordered() == "nvidia"


def listed_by_its_type(bench: Bench) -> None:
    bench.write(bench.folder() / "mdev_supported_types/nvidia-46/devices/334852fe/uevent", "")


def listed_by_the_bus(bench: Bench) -> None:
    made = bench.folder() / "334852fe-079b-11ee-9fc7-77463608f467"
    made.mkdir()
    bus = bench.node.sys / "bus/mdev/devices"
    bus.mkdir(parents=True)
    (bus / made.name).symlink_to(made)


@pytest.mark.parametrize("made", [listed_by_its_type, listed_by_the_bus])
async def test_a_gpu_that_a_mediated_device_was_made_of_stays(
    bench: Bench, made: Callable[[Bench], None]
) -> None:
    made(bench)
    assert (await bench.verdict())[:2] == (False, "MediatedDevices")
    assert await bench.ordered() == "nvidia"


async def test_all_functions_of_a_card_go_along(bench: Bench) -> None:
    for number, (pci_class, driver) in enumerate(
        [("040300", "snd_hda_intel"), ("0c0330", "xhci_hcd"), ("0c8000", "nvidia-gpu")], start=1
    ):
        bench.node.add_driver(driver)
        bench.node.add_device(
            f"0000:3b:00.{number}",
            vendor="10de",
            device="1aef",
            pci_class=pci_class,
            group=GROUP,
            host_driver=driver,
        )
    assert (await bench.verdict())[0]
    assert await bench.ordered() == "vfio-pci"
    assert {bench.node.driver_of(f"0000:3b:00.{n}") for n in range(4)} == {"vfio-pci"}


# -- its IOMMU group --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pci_class", "header", "driver", "handed_over"),
    [
        ("060400", 1, "pcieport", True),
        ("060400", 0x81, "shpchp", True),
        ("060400", 0, "pcieport", True),
        ("060100", 0, "", True),
        ("060100", 0, "lpc_ich", False),
        ("060000", 0, "skx_uncore", False),
        ("068000", 0, "nvidia-nvswitch", False),
        ("020000", 0, "", True),
        ("020000", 0, "pci-stub", True),
        ("020000", 0, "ixgbe", False),
    ],
    ids=[
        "PCIe port", "PCIe port of many functions", "port whose header says nothing", "ISA bridge on no driver", "ISA bridge",
        "host bridge", "NVSwitch", "endpoint on no driver", "stubbed endpoint", "network card",
    ],
)  # fmt: skip
async def test_a_group_is_judged_by_header_and_driver_as_the_kernel_judges_it(
    bench: Bench, pci_class: str, header: int, driver: str, handed_over: bool
) -> None:
    other = "0000:3a:00.0"
    if driver:
        bench.node.add_driver(driver)
    bench.node.add_device(
        other, vendor="8086", device="1234", pci_class=pci_class, group=GROUP, host_driver=driver
    )
    bench.set_header(other, header)
    possible, reason, sentence = await bench.verdict()
    assert (possible, reason) == ((True, "InPlace") if handed_over else (False, "GroupNotViable"))
    assert handed_over or f"{other} ({driver})" in sentence
    assert await bench.ordered() == ("vfio-pci" if handed_over else "nvidia")


# -- the kernel as a user ---------------------------------------------------------------------------------


def console_on(bench: Bench, frame_buffer: str, *, bound: str = "1", others: tuple[str, ...] = ()) -> None:
    bench.write(bench.folder() / f"graphics/{frame_buffer}/dev", "29:0\n")
    for name in (frame_buffer, *others):
        (bench.node.sys / "class/graphics" / name).mkdir(parents=True)
    bench.write(bench.node.sys / "class/vtconsole/vtcon0/name", "(S) dummy device\n")
    bench.write(bench.node.sys / "class/vtconsole/vtcon0/bind", "0\n")
    bench.write(bench.node.sys / "class/vtconsole/vtcon1/name", "(M) frame buffer device\n")
    bench.write(bench.node.sys / "class/vtconsole/vtcon1/bind", f"{bound}\n")


async def test_a_card_with_the_kernels_console_on_it_stays(bench: Bench) -> None:
    console_on(bench, "fb0")
    possible, reason, sentence = await bench.verdict()
    assert (possible, reason) == (False, "BootDisplay")
    assert "the kernel's console, on fb0" in sentence and "on another card" in sentence
    assert await bench.ordered() == "nvidia"


async def test_a_frame_buffer_without_the_console_keeps_nobody(bench: Bench) -> None:
    console_on(bench, "fb1", others=("fb0",))
    assert (await bench.verdict())[0]


async def test_a_console_that_was_unbound_keeps_nobody(bench: Bench) -> None:
    console_on(bench, "fb0", bound="0")
    assert (await bench.verdict())[0]


async def test_a_driver_that_gives_the_console_up_is_not_kept_by_it(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_device(A)
    under = AgentUnderTest(node, {A: "GPU-a"})
    bench = Bench.__new__(Bench)
    bench.node, bench.under = node, under
    console_on(bench, "fb0")
    assert (await bench.verdict())[0]


async def test_the_display_that_the_host_boots_on_stays(bench: Bench) -> None:
    bench.write(bench.folder() / "boot_vga", "1\n")
    assert (await bench.verdict())[:2] == (False, "BootDisplay")
    assert await bench.ordered() == "nvidia"


@pytest.mark.parametrize(
    ("modeset", "node", "stays"),
    [("Y", True, True), ("", True, True), ("N", True, False), ("Y", False, False)],
)
async def test_a_gpu_whose_modesetting_is_on_stays(
    bench: Bench, modeset: str, node: bool, stays: bool
) -> None:
    bench.write(bench.node.sys / "module/nvidia_drm/parameters/modeset", f"{modeset}\n")
    if node:
        bench.write(bench.folder() / "drm/card0/dev", "226:0\n")
    possible, reason, sentence = await bench.verdict()
    assert (possible, reason) == ((False, "KernelHolds") if stays else (True, "InPlace"))
    assert not stays or "options nvidia_drm modeset=0" in sentence
    assert await bench.ordered() == ("nvidia" if stays else "vfio-pci")


async def test_a_display_server_holds_the_card_by_its_display_node(bench: Bench) -> None:
    bench.write(bench.folder() / "drm/card0/dev", "226:0\n")
    bench.node.add_device_file("/dev/dri/card0", 226, 0, A)
    bench.node.start_process("/dev/dri/card0", command="Xorg")
    await bench.under.passes(2)
    assert [h["command"] for h in bench.under.api.device(A)["holders"]] == ["Xorg"]
    assert await bench.ordered() == "nvidia"


# -- a card that has gone, or comes -------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci", ""])
async def test_a_card_off_its_bus_is_quarantined_and_nothing_is_written_to_it(
    bench: Bench, driver: str
) -> None:
    bench.node._unbind(bench.node.devices[A])
    bench.node._bind(bench.node.devices[A], driver)
    bench.under.api.want({A: Mode.PASSTHROUGH})
    await bench.under.passes(2)
    before = list(bench.node.writes)
    (bench.folder() / "config").write_bytes(b"\xff" * 64)
    possible, reason, sentence = await bench.verdict()
    gpu = bench.under.api.device(A)
    assert (gpu["phase"], gpu["reason"]) == ("Quarantined", "OffTheBus")
    assert (possible, reason) == (False, "OffTheBus") and "Xid 79" in sentence
    assert bench.node.offered == set(), "withdrawn from the kubelet"
    for mode in (Mode.PASSTHROUGH, Mode.SHARED):
        bench.under.api.want({A: mode}, f"to {mode}", step=Step.REBIND, moving=[A])
        await bench.under.passes(4)
    assert bench.node.writes == before


@pytest.mark.parametrize(
    "config", [None, b"", b"\0" * 64, b"\x86\x80" + b"\0" * 62], ids=["gone", "empty", "zeros", "another's"]
)
@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci"])
async def test_a_card_of_which_nobody_knows_whether_it_answers_stays(
    bench: Bench, driver: str, config: bytes | None
) -> None:
    bench.node._unbind(bench.node.devices[A])
    bench.node._bind(bench.node.devices[A], driver)
    (bench.folder() / "config").unlink()
    if config is not None:
        (bench.folder() / "config").write_bytes(config)
    possible, reason, sentence = await bench.verdict()
    assert (possible, reason) == (False, "CannotTell") and "configuration space" in sentence
    for mode in (Mode.PASSTHROUGH, Mode.SHARED):
        bench.under.api.want({A: mode}, f"to {mode}", step=Step.REBIND, moving=[A])
        await bench.under.passes(4)
    assert bench.node.writes == []


@pytest.mark.parametrize(
    "path",
    [
        f"{A}/config",
        f"{A}/sriov_numvfs",
        f"{A}/mdev_supported_types",
        f"{A}/boot_vga",
        f"{A}/graphics",
        "bus/mdev/devices",
        "class/vtconsole",
        "0000:3b:00.1/driver",
    ],
)
async def test_a_card_of_which_something_cannot_be_read_stays_and_the_file_is_named(
    tmp_path: Path, path: str
) -> None:
    """As where a security module stops the agent. The last one is of another function of the card's group."""
    bench = Bench(tmp_path)
    bench.node.add_device("0000:3b:00.1", vendor="10de", device="1aef", pci_class="040300", group=GROUP)
    vtcon = bench.node.sys / "class/vtconsole/vtcon1"
    bench.write(vtcon / "name", "(M) frame buffer device\n")
    bench.write(vtcon / "bind", "1\n")
    bench.node.files = FakeFiles(bench.node.number, lambda asked: asked.endswith(path))
    bench.under.restart()
    possible, reason, sentence = await bench.verdict()
    assert (possible, reason) == (False, "CannotTell")
    assert path in sentence and "security module" in sentence
    assert await bench.ordered() == "nvidia"
    assert bench.node.writes == []


async def test_a_card_that_answers_again_is_taken_back(bench: Bench) -> None:
    config = (bench.folder() / "config").read_bytes()
    (bench.folder() / "config").write_bytes(b"\xff" * 64)
    assert (await bench.verdict())[1] == "OffTheBus"
    (bench.folder() / "config").write_bytes(config)
    assert (await bench.verdict())[0]
    assert bench.under.api.device(A)["phase"] == "Ready"


async def test_a_card_that_is_plugged_in_shows_and_moves_once_all_is_known_of_it(bench: Bench) -> None:
    await bench.under.passes(3)
    bench.add_gpu(B, minor=1)
    possible, _, _ = await bench.verdict(B)
    assert possible and bench.under.api.device(B)["uuid"] == "GPU-b"
    assert await bench.ordered(B) == "vfio-pci"
    bench.node.remove_from_bus(B)
    await bench.under.passes(2)
    assert bench.under.api.device(B)["reason"] == "DeviceGone"
