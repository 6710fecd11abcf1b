"""What the agent relies on in the kernel, asked of the fake one and of the real one alike.

On a developer's machine only the fake answers. `e2e/agent/test_on_the_node.py` runs this file in the
emulated node, with POOLMGR_REAL_GPU set to the PCI address of a GPU that may be moved about, and then the
real kernel answers the same questions.
"""

import errno
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.holders import find_holders
from poolmgr.agent.inventory import Accelerator, scan
from poolmgr.agent.kernelmodules import KernelModules
from poolmgr.agent.rebind import Rebinder
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from tests import node_bench
from tests.fake_node import FakeNode
from tests.node_bench import NodeUnderTest, NoFence

REAL = os.environ.get("POOLMGR_REAL_GPU", "")
HOST_DRIVER = "bochs-drm"
SECONDS = 60.0
CATALOGUE = load_catalogue(["nvidia", "emulated"])


@dataclass
class Bench:
    """One GPU, and a kernel to ask about it."""

    gpu: PciAddress
    node: NodeUnderTest

    @property
    def sysfs(self) -> Sysfs:
        return self.node.sysfs

    def hold(self, path: str) -> int:
        return self.node.holders.hold(path)

    def look(self) -> Accelerator:
        return next(g for g in scan(self.sysfs, CATALOGUE, self.node.proc) if g.address == self.gpu)

    def holders(self, gpu: Accelerator) -> tuple[Holder, ...]:
        return find_holders([gpu], self.node.proc, self.node.files)[gpu.address]

    def rebinder(self) -> Rebinder:
        return Rebinder(
            self.sysfs,
            CATALOGUE,
            KernelModules(self.sysfs),
            NoFence(),
            lambda _gpu: self.holders(self.look()),
            proc=self.node.proc,
        )

    async def to(self, driver: str | None) -> None:
        """By single writes, each of which must be taken."""
        if self.sysfs.read_driver(self.gpu):
            assert (await self.sysfs.unbind(self.gpu, SECONDS)).ok
        if driver is not None:
            assert (await self.sysfs.write_override(self.gpu, driver)).ok
            assert (await self.sysfs.probe(self.gpu, SECONDS)).ok


def fake_bench(folder: Path) -> Bench:
    node = FakeNode(folder)
    gpu = PciAddress("0000:00:04.0")
    node.add_device(gpu)
    return Bench(gpu, node_bench.fake(node))


@pytest.fixture(params=["fake", *(["real"] if REAL else [])])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(PciAddress(REAL), node_bench.real()) if request.param == "real" else fake_bench(tmp_path)
    yield made
    made.node.holders.let_go()
    if made.sysfs.read_driver(made.gpu) != HOST_DRIVER:
        await made.to(HOST_DRIVER)
    await made.sysfs.write_override(made.gpu, "")


async def test_a_reserved_device_goes_to_vfio_and_its_group_file_appears(bench: Bench) -> None:
    assert not bench.look().vfio_group_present
    await bench.to("vfio-pci")
    gpu = bench.look()
    assert (gpu.driver, gpu.mode, gpu.vfio_group_present) == ("vfio-pci", Mode.PASSTHROUGH, True)
    assert f"vfio/{gpu.iommu_group}" in [f.name for f in gpu.device_files]


async def test_a_cleared_reservation_lets_the_kernel_choose_the_host_driver(bench: Bench) -> None:
    await bench.to("vfio-pci")
    await bench.to(None)
    assert (await bench.sysfs.write_override(bench.gpu, "")).ok
    assert (await bench.sysfs.probe(bench.gpu, SECONDS)).ok
    gpu = bench.look()
    assert (gpu.driver, gpu.mode, gpu.vfio_group_present) == (HOST_DRIVER, Mode.SHARED, False)


async def test_probe_succeeds_though_nothing_binds(bench: Bench) -> None:
    await bench.to("no-such-driver")
    assert bench.look().driver is None


async def test_probe_leaves_a_bound_device_where_it_is(bench: Bench) -> None:
    assert (await bench.sysfs.write_override(bench.gpu, "vfio-pci")).ok
    assert (await bench.sysfs.probe(bench.gpu, SECONDS)).ok
    assert bench.look().driver == HOST_DRIVER


async def test_a_device_on_no_driver_has_no_unbind(bench: Bench) -> None:
    await bench.to(None)
    assert (await bench.sysfs.unbind(bench.gpu, SECONDS)).error_number == errno.ENOENT


async def test_the_host_drivers_files_are_found_below_the_device(bench: Bench) -> None:
    assert any(f.name.startswith("card") for f in bench.look().device_files)


async def test_a_holder_of_the_host_drivers_file_is_found(bench: Bench) -> None:
    card = next(f.name for f in bench.look().device_files if f.name.startswith("card"))
    pid = bench.hold(f"/dev/dri/{card}")
    assert [(h.pid, h.path) for h in bench.holders(bench.look())] == [(pid, f"/dev/dri/{card}")]


async def test_a_holder_of_the_group_is_found_and_the_rebind_refused(bench: Bench) -> None:
    await bench.to("vfio-pci")
    group = f"/dev/vfio/{bench.look().iommu_group}"
    pid = bench.hold(group)
    assert [(h.pid, h.path) for h in bench.holders(bench.look())] == [(pid, group)]
    refused = await bench.rebinder().rebind(bench.gpu, Mode.SHARED)
    assert (refused.ok, refused.reason) == (False, Reason.HOLDER_PRESENT)
    assert bench.look().driver == "vfio-pci"
    bench.node.holders.let_go()
    assert (await bench.rebinder().rebind(bench.gpu, Mode.SHARED)).ok
    assert bench.look().driver == HOST_DRIVER


async def test_a_rebind_there_and_back_leaves_no_reservation(bench: Bench) -> None:
    there = await bench.rebinder().rebind(bench.gpu, Mode.PASSTHROUGH)
    assert (there.ok, there.mode, bench.look().driver) == (True, Mode.PASSTHROUGH, "vfio-pci")
    back = await bench.rebinder().rebind(bench.gpu, Mode.SHARED)
    assert (back.ok, back.mode, bench.look().driver) == (True, Mode.SHARED, HOST_DRIVER)
    assert bench.sysfs.read_attribute(bench.gpu, "driver_override") == "(null)"


async def test_a_rebind_takes_up_a_device_on_no_driver(bench: Bench) -> None:
    await bench.to(None)
    assert (await bench.rebinder().rebind(bench.gpu, Mode.PASSTHROUGH)).ok
    assert bench.look().passthrough_complete
