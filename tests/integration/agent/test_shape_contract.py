"""One reader, the agent's own, sees the same of an NVIDIA-shaped node whether it is fake or emulated.

The fake one answers everywhere. `e2e/node/test_shaped.py` lays the same shapes over the emulated node and runs this
file there with POOLMGR_SHAPED naming the shape that is laid. Where the agent misjudges a shape today, the test says
what is right and is expected to fail.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.node.shape import Shape
from e2e.node.shaped import ACCELERATORS, SHAPES
from poolmgr.agent import preflight
from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.evidence import check_evidence
from poolmgr.agent.holders import find_holders
from poolmgr.agent.inventory import Accelerator, DeviceFile, scan
from poolmgr.agent.kernelmodules import KernelModules
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.rebind import Rebinder
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests import node_bench
from tests.fake_node import FakeNode
from tests.fake_nvidia import FakeNvidia
from tests.node_bench import NodeUnderTest, NoFence

LAID = os.environ.get("POOLMGR_SHAPED", "")
CATALOGUE = load_catalogue([str(ACCELERATORS)])


@dataclass
class Bench:
    """A node in a shape, and the agent's eyes on it."""

    shape: Shape
    node: NodeUnderTest

    @property
    def sysfs(self) -> Sysfs:
        return self.node.sysfs

    def hold(self, path: str) -> int:
        return self.node.holders.hold(path)

    def all(self) -> dict[str, Accelerator]:
        return {gpu.address: gpu for gpu in scan(self.sysfs, CATALOGUE, self.node.proc)}

    def gpu(self, index: int) -> Accelerator:
        return self.all()[self.shape.gpus[index]]

    def holders(self, index: int) -> list[tuple[int, str]]:
        found = find_holders([self.gpu(index)], self.node.proc, self.node.files)
        return [(holder.pid, holder.path) for holder in found[PciAddress(self.shape.gpus[index])]]

    def read(self, index: int, attribute: str) -> str | None:
        return self.sysfs.read_attribute(PciAddress(self.shape.gpus[index]), attribute)

    def proc_file(self, path: str) -> str | None:
        try:
            return (self.node.proc / path).read_text()
        except OSError:
            return None

    async def to(self, index: int, mode: Mode) -> None:
        address = PciAddress(self.shape.gpus[index])
        rebinder = Rebinder(
            self.sysfs, CATALOGUE, KernelModules(self.sysfs), NoFence(), lambda _gpu: (), proc=self.node.proc
        )
        done = await rebinder.rebind(address, mode)
        assert done.ok, done.message


def fake_bench(folder: Path, shape: Shape) -> Bench:
    node = FakeNode(folder)
    FakeNvidia(node, shape)
    return Bench(shape, node_bench.fake(node))


def benches(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "bench",
        [pytest.param((where, name), id=where) for where in ["fake", *(["real"] if name == LAID else [])]],
        indirect=True,
    )


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    where, name = request.param
    shape = SHAPES[name]
    made = Bench(shape, node_bench.real()) if where == "real" else fake_bench(tmp_path, shape)
    yield made
    made.node.holders.let_go()


whole, masked, fallen = benches("whole"), benches("masked"), benches("fallen")
FIRST, SECOND, VGPU_HOST = 0, 1, 2
"""GPUs of the shapes: divided by MIG and with the console; a parent of mediated devices; with virtual functions."""


# -- a GPU on NVIDIA's driver -----------------------------------------------------------------------------


@whole
def test_gpus_are_nvidias_and_shared(bench: Bench) -> None:
    for index in (FIRST, SECOND, VGPU_HOST):
        gpu = bench.gpu(index)
        assert (gpu.vendor.vendor_name, gpu.mode) == ("NVIDIA", Mode.SHARED)
        assert gpu.resource_name == "nvidia.com/GA100_A100_SXM4_80GB"
        assert bench.sysfs.read_vendor_from_config(gpu.address) == "10de"


@whole
def test_a_gpus_device_files_have_nvidias_numbers(bench: Bench) -> None:
    for index in (FIRST, SECOND):
        render = bench.shape.render_minor(index)
        assert DeviceFile(f"nvidia{index}", 195, index) in bench.gpu(index).device_files
        assert DeviceFile(f"renderD{render}", 226, render) in bench.gpu(index).device_files


@whole
@pytest.mark.parametrize("path", ["/dev/nvidia1", "/dev/dri/renderD385"])
def test_a_holder_of_a_gpus_own_files_is_found(bench: Bench, path: str) -> None:
    pid = bench.hold(path)
    assert bench.holders(SECOND) == [(pid, path)]
    assert bench.holders(VGPU_HOST) == []
    bench.node.holders.let_go()
    assert bench.holders(SECOND) == []


@whole
def test_the_drivers_own_files_in_proc(bench: Bench) -> None:
    address = bench.shape.gpus[SECOND]
    assert bench.proc_file(f"driver/nvidia/gpus/{address}/information") == bench.shape.information(SECOND)
    assert "NVRM version" in (bench.proc_file("driver/nvidia/version") or "")
    devices = bench.proc_file("devices") or ""
    assert "195 nvidia\n" in devices and "236 nvidia-caps\n" in devices and "508 nvidia-uvm\n" in devices


@whole
async def test_a_gpu_leaves_the_drivers_files_with_it_and_comes_back_to_them(bench: Bench) -> None:
    await bench.to(SECOND, Mode.PASSTHROUGH)
    gpu = bench.gpu(SECOND)
    assert gpu.usable_by_vm
    assert [file.name for file in gpu.device_files] == [f"vfio/{gpu.iommu_group}"]
    assert bench.proc_file(f"driver/nvidia/gpus/{gpu.address}/information") is None
    assert bench.gpu(FIRST).mode is Mode.SHARED
    await bench.to(SECOND, Mode.SHARED)
    names = {file.name for file in bench.gpu(SECOND).device_files}
    assert {"nvidia1", "renderD385"} <= names


# -- MIG --------------------------------------------------------------------------------------------------


@whole
def test_mig_devices_have_their_files(bench: Bench) -> None:
    for device in bench.shape.mig_devices(FIRST):
        text = bench.proc_file(f"driver/nvidia/capabilities/gpu0/mig/gi{device.gi}/ci0/access") or ""
        minor = int(text.splitlines()[0].removeprefix("DeviceFileMinor: "))
        assert f"gpu0/gi{device.gi}/ci0/access {minor}\n" in (
            bench.proc_file("driver/nvidia-caps/mig-minors") or ""
        )
        assert (236, minor) in {(file.major, file.minor) for file in bench.shape.device_files()}
    assert bench.proc_file("driver/nvidia/capabilities/gpu1/mig/gi1/access") is None


@whole
def test_a_holder_of_a_mig_device_holds_the_gpu(bench: Bench) -> None:
    minor = next(file.minor for file in bench.shape.device_files() if file.major == 236 and file.minor > 2)
    pid = bench.hold(f"/dev/nvidia-caps/nvidia-cap{minor}")
    assert [holder for holder, _ in bench.holders(FIRST)] == [pid]


# -- vGPU hosts, switches, consoles -----------------------------------------------------------------------


@whole
def test_virtual_functions_hang_on_their_physical_function(bench: Bench) -> None:
    virtual = bench.shape.vfs[VGPU_HOST]
    assert bench.gpu(VGPU_HOST).virtual_functions == len(virtual)
    for number, address in enumerate(virtual):
        folder = bench.node.root / "sys/bus/pci/devices"
        assert (folder / bench.shape.gpus[VGPU_HOST] / f"virtfn{number}").readlink().name == address
        assert (folder / address / "physfn").readlink().name == bench.shape.gpus[VGPU_HOST]
        assert bench.sysfs.read_iommu_group(PciAddress(address)) is not None


@whole
def test_virtual_functions_are_no_cards(bench: Bench) -> None:
    assert set(bench.all()) == set(bench.shape.gpus)


@whole
def test_mediated_devices_hang_on_their_parent(bench: Bench) -> None:
    (made,) = bench.shape.mdev_uuids(SECOND)
    kind = "mdev_supported_types/nvidia-558"
    assert bench.read(SECOND, f"{kind}/device_api") == "vfio-pci"
    assert bench.read(SECOND, f"{kind}/available_instances") == "3"
    folder = bench.node.root / "sys/bus/pci/devices" / bench.shape.gpus[SECOND]
    assert (folder / kind / "devices" / made).readlink().name == made
    assert (folder / made / "mdev_type").readlink().name == "nvidia-558"
    link = (bench.node.root / "sys/bus/mdev/devices" / made).readlink()
    assert link.parts[-2:] == (bench.shape.gpus[SECOND], made)


@whole
def test_a_gpu_with_mediated_devices_stays(bench: Bench) -> None:
    assert [bench.gpu(index).mediated_devices for index in (FIRST, SECOND, VGPU_HOST)] == [False, True, False]
    verdict = preflight.check_state(bench.gpu(SECOND), Mode.PASSTHROUGH)
    assert verdict.reason is Reason.MEDIATED_DEVICES
    assert preflight.check_state(bench.gpu(VGPU_HOST), Mode.PASSTHROUGH).reason is Reason.SRIOV_ACTIVE


@whole
def test_an_nvswitch_joins_the_nodes_gpus(bench: Bench) -> None:
    assert {gpu.nvswitch_domain for gpu in bench.all().values()} == {"nvswitch"}
    assert not set(bench.shape.nvswitches) & set(bench.all())


@whole
def test_a_card_with_the_console_says_so(bench: Bench) -> None:
    assert bench.gpu(FIRST).boot_display
    assert not bench.gpu(SECOND).boot_display
    frame_buffer = bench.node.root / "sys/class/graphics/fb0/device"
    assert frame_buffer.resolve().name == bench.shape.gpus[FIRST]
    consoles = sorted((bench.node.root / "sys/class/vtconsole").iterdir())
    bound = {(c / "name").read_text().strip(): (c / "bind").read_text().strip() for c in consoles}
    assert bound["(M) frame buffer device"] == "1"


# -- a mask over /proc/driver/nvidia ----------------------------------------------------------------------


@masked
def test_a_mask_shows_the_gpus_that_were_put_in(bench: Bench) -> None:
    shown, hidden = (bench.shape.gpus[index] for index in (FIRST, SECOND))
    assert bench.proc_file(f"driver/nvidia/gpus/{shown}/information") == bench.shape.information(FIRST)
    assert bench.proc_file(f"driver/nvidia/gpus/{hidden}/information") is None
    assert "ModifyDeviceFiles: 0\n" in (bench.proc_file("driver/nvidia/params") or "")


@masked
def test_a_masked_gpu_is_not_taken_for_one_that_nobody_holds(bench: Bench) -> None:
    def verdict(index: int) -> Verdict:
        return check_evidence(ObservedGpu(bench.gpu(index), uuid="GPU-1"))

    assert verdict(FIRST)
    assert verdict(SECOND).reason is Reason.CANNOT_TELL
    assert f"gpus/{bench.shape.gpus[SECOND]}/information does not exist" in verdict(SECOND).message


@masked
def test_a_masked_gpus_holder_is_found_where_the_hosts_first_process_can_be_looked_at(bench: Bench) -> None:
    folder = bench.node.root / "proc/1/root/proc/driver/nvidia/gpus" / bench.shape.gpus[SECOND]
    folder.mkdir(parents=True)
    (folder / "information").write_text(bench.shape.information(SECOND))
    pid = bench.hold("/dev/nvidia1")
    assert bench.holders(SECOND) == [(pid, "/dev/nvidia1")]


@masked
async def test_a_gpu_does_not_come_back_into_the_mask(bench: Bench) -> None:
    address = bench.shape.gpus[FIRST]
    await bench.to(FIRST, Mode.PASSTHROUGH)
    assert bench.proc_file(f"driver/nvidia/gpus/{address}/information") is None
    await bench.to(FIRST, Mode.SHARED)
    assert bench.gpu(FIRST).mode is Mode.SHARED
    assert bench.proc_file(f"driver/nvidia/gpus/{address}/information") is None


# -- a GPU that has fallen off its bus, and a driver that has not been asked yet ---------------------------


@fallen
def test_a_gpu_off_the_bus_answers_all_ones(bench: Bench) -> None:
    first, second = (PciAddress(bench.shape.gpus[index]) for index in (FIRST, SECOND))
    assert bench.sysfs.read_vendor_from_config(first) == "ffff"
    assert bench.sysfs.read_vendor_from_config(second) == "10de"
    assert bench.gpu(FIRST).mode is Mode.SHARED, "its driver still has it"


@fallen
def test_before_the_first_client_the_driver_shows_no_uuid(bench: Bench) -> None:
    text = bench.proc_file(f"driver/nvidia/gpus/{bench.shape.gpus[SECOND]}/information") or ""
    assert "GPU-????????-????-????-????-????????????" in text
    assert DeviceFile("nvidia1", 195, 1) in bench.gpu(SECOND).device_files
