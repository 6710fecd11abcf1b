"""The agent beside who keeps the driver: its persistence daemon, and a driver that a container loads minutes after the boot."""

from pathlib import Path

import pytest

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.inventory import scan
from poolmgr.agent.kernelmodules import KernelModules
from poolmgr.agent.preflight import check_holders
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.reasons import Reason
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import FakeNode

A, B = "0000:3b:00.0", "0000:86:00.0"


class Persistenced(AgentUnderTest):
    """nvidia-persistenced has both GPUs open until NVML ends persistence mode on one."""

    def __init__(self, folder: Path, *, yields: bool = True) -> None:
        node = FakeNode(folder)
        for minor, address in enumerate((A, B)):
            node.add_device(address, vendor="10de", device="26b9", pci_class="030200", host_driver="nvidia")
            information = node.proc / "driver/nvidia/gpus" / address / "information"
            information.parent.mkdir(parents=True)
            information.write_text(f"Device Minor: {minor}\n")
            node.add_device_file(f"/dev/nvidia{minor}", 195, minor, address)
        self.pids = {
            a: node.start_process(f"/dev/nvidia{n}", command="nvidia-persiste") for n, a in enumerate((A, B))
        }
        self.yields = yields
        super().__init__(node, {A: "GPU-a", B: "GPU-b"})
        self.asked: list[tuple[str, str]] = []
        self.nvml.quiesce = self.quiesce  # type: ignore[method-assign]
        self.nvml.resume = self.resume  # type: ignore[method-assign]

    async def quiesce(self, address: PciAddress) -> str:
        self.asked.append(("quiesce", address))
        if self.yields and address in self.pids:
            self.node.end_process(self.pids.pop(address))
        return ""

    async def resume(self, address: PciAddress) -> None:
        self.asked.append(("resume", address))


async def to_passthrough(agent: AgentUnderTest) -> None:
    await agent.passes(2)
    agent.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await agent.passes(3)


async def test_the_persistence_daemon_is_asked_to_let_go_and_the_gpu_moves(tmp_path: Path) -> None:
    agent = Persistenced(tmp_path)
    await to_passthrough(agent)
    assert agent.node.driver_of(A) == "vfio-pci"
    assert agent.node.driver_of(B) == "nvidia"
    assert agent.asked == [("quiesce", A)]
    assert agent.node.violations == []


async def test_a_daemon_that_does_not_let_go_keeps_its_gpu_and_gets_its_mode_back(tmp_path: Path) -> None:
    agent = Persistenced(tmp_path, yields=False)
    await to_passthrough(agent)
    assert agent.node.driver_of(A) == "nvidia"
    assert not any(write.startswith("unbind") for write in agent.node.writes)
    assert agent.asked[:2] == [("quiesce", A), ("resume", A)]
    assert agent.api.device(A)["reason"] == Reason.HOLDER_PRESENT, "and it is told"
    assert agent.asked.count(("quiesce", A)) == 2, "not at every look"
    assert agent.node.violations == []


async def test_whoever_only_calls_itself_so_is_found_by_the_last_look(tmp_path: Path) -> None:
    agent = Persistenced(tmp_path)
    impostor = agent.node.start_process("/dev/nvidia0", command="nvidia-persistenced-not")
    await to_passthrough(agent)
    assert agent.node.driver_of(A) == "nvidia"
    assert f"is held by nvidia-persistenced-not (pid {impostor})" in agent.api.device(A)["message"]
    assert agent.node.violations == []


def test_on_vfio_nobody_is_asked_so_everybody_counts(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_device(A, vendor="10de", device="26b9", pci_class="030200", driver="vfio-pci")
    (gpu,) = scan(Sysfs(node, node.sys, node.files), load_catalogue(["nvidia"]), node.proc)
    holder = Holder(7, "nvidia-persiste", "", "/dev/vfio/1")
    assert not check_holders(gpu, (holder,), asked=False)


# -- a driver in a container --------------------------------------------------------------------------------


async def test_a_driver_that_its_container_still_builds_is_waited_for(tmp_path: Path) -> None:
    """As after a reboot of a node of the GPU operator: nvidia.ko comes minutes later. Nothing is given up meanwhile."""
    node = FakeNode(tmp_path)
    node.add_device(A, vendor="10de", device="26b9", pci_class="030200", host_driver="")
    node.drivers.discard("nvidia")
    agent = AgentUnderTest(node, {A: "GPU-a"})
    await agent.passes(1)
    agent.api.want({A: Mode.SHARED})
    await agent.passes(120)  # ten minutes
    assert agent.api.device(A)["reason"] == Reason.DRIVER_MISSING
    assert agent.api.device(A)["phase"] != "Quarantined"
    node.drivers.add("nvidia")
    node.devices[A].host_driver = "nvidia"
    await agent.passes(40)
    assert node.driver_of(A) == "nvidia"
    assert agent.api.device(A)["phase"] == "Ready"


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        (frozenset({"nvidia"}), "its container has not loaded it (see the pods of the driver on this node)"),
        (frozenset(), "load it (modprobe nvidia) and list it in /etc/modules-load.d"),
    ],
    ids=["a container's", "the host's"],
)
def test_a_missing_driver_is_the_hosts_or_its_containers_business(
    elsewhere: frozenset[str], said: str, tmp_path: Path
) -> None:
    modules = KernelModules(Sysfs(FakeNode(tmp_path)), elsewhere)
    assert said in modules.missing_message("nvidia")
    assert "modprobe vfio-pci" in modules.missing_message("vfio-pci")


async def test_no_module_of_the_host_is_loaded_in_the_place_of_a_containers(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    modules = KernelModules(Sysfs(node, node.sys / "nowhere"), frozenset({"nvidia"}))
    assert not await modules.ensure_loaded("nvidia")
