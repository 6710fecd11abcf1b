"""Nodes as users have them, each as a recording, with the right answer for every GPU and its sentence.

A node that a user reports becomes a row here, by what its recording shows. One file, long as it is: a table that is read
row beside row.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from e2e.node.shape import Shape
from e2e.nvml.state import A100, L40S, T4, Model
from poolmgr.agent.manual import ManualControl
from poolmgr.agent.nvml import NvmlReport
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from tests.recorded_node import RecordedNode, answers, judge

pytestmark = pytest.mark.long

H100 = Model("NVIDIA H100 80GB HBM3", "233010de", 81559, "9.0", has_mig=True)
RTX4090 = Model("NVIDIA GeForce RTX 4090", "268410de", 24564, "8.9")
GH200 = Model("NVIDIA GH200 480GB", "234210de", 97871, "9.0", has_mig=True)
A, B = "0000:3b:00.0", "0000:86:00.0"
EIGHT = tuple(f"0000:{bus:02x}:00.0" for bus in (0x18, 0x2A, 0x3A, 0x5D, 0x9A, 0xAB, 0xBA, 0xDB))
POD = "0f0e0d0c-0000-4000-8000-000000000001"
RESOURCE = "nvidia.com/AD102GL_L40S"
YES = ("StepStarted", "")


@dataclass(frozen=True)
class Row:
    """A node and what is right to say of each of its GPUs."""

    what: str
    build: Callable[[RecordedNode], None]
    expect: dict[str, tuple[str, str]]
    """PCI address → reason of what the agent would do, and a part of its sentence."""
    shape: Shape | None = None
    to_mode: Mode = Mode.PASSTHROUGH


def nothing(_: RecordedNode) -> None:
    """The shape says it all."""


def card(node: RecordedNode, address: str, **traits: Any) -> None:
    """A PCI function beside the shape's own."""
    node.node.add_driver(traits.get("host_driver", "none"))
    node.node.add_device(address, **{"vendor": "10de", "host_driver": "nvidia", **traits})


def group_of(node: RecordedNode, address: str) -> int:
    return node.node.devices[address].group


def on_vfio(node: RecordedNode, *addresses: str) -> None:
    for address in addresses:
        device = node.node.devices[address]
        node.node._unbind(device)
        node.node._bind(device, "vfio-pci")
        if node.shape and address in node.shape.gpus:
            node.leave_nvml(address)


def write(node: RecordedNode, address: str, attribute: str, text: str) -> None:
    (node.node.sys / "bus/pci/devices" / address / attribute).write_text(f"{text}\n")


# -- what beside the shape makes each node ----------------------------------------------------------------


def computing(node: RecordedNode) -> None:
    node.hold("/dev/nvidia0", "python3", POD)


def with_renderer(node: RecordedNode) -> None:
    node.hold("/dev/dri/renderD384", "Xorg")


def with_neighbours_of_the_operator(node: RecordedNode) -> None:
    for path in ("/dev/nvidia0", "/dev/nvidia1"):
        node.hold(path, "dcgm-exporter", POD)


def with_nic_in_group(node: RecordedNode) -> None:
    group = group_of(node, A)
    card(
        node,
        "0000:3c:00.0",
        vendor="15b3",
        device="101d",
        pci_class="020000",
        group=group,
        host_driver="mlx5_core",
    )


def with_bridge_in_group(node: RecordedNode) -> None:
    group = group_of(node, A)
    card(
        node,
        "0000:3a:00.0",
        vendor="8086",
        device="347a",
        pci_class="060400",
        group=group,
        host_driver="pcieport",
    )


def with_switch_in_group(node: RecordedNode) -> None:
    group = group_of(node, EIGHT[0])
    card(node, "0000:19:00.0", device="22a3", pci_class="068000", group=group, host_driver="nvidia-nvswitch")


def with_companions(node: RecordedNode) -> None:
    for address, pci_class, driver in (
        ("0000:3b:00.1", "040300", "snd_hda_intel"),
        ("0000:3b:00.2", "0c0330", "xhci_hcd"),
        ("0000:3b:00.3", "0c8000", "nvidia-gpu"),
    ):
        card(node, address, device="22ba", pci_class=pci_class, group=group_of(node, A), host_driver=driver)


def with_twin_in_group(node: RecordedNode) -> None:
    card(node, B, device="2684", pci_class="030000", group=group_of(node, A))
    minor = "Device Minor: \t 1\n"
    folder = node.node.proc / "driver/nvidia/gpus" / B
    folder.mkdir(parents=True)
    (folder / "information").write_text(minor)
    twin = replace(node.nvml.gpus[next(iter(node.nvml.gpus))], uuid="GPU-twin", minor=1)
    node.nvml = NvmlReport({**node.nvml.gpus, B: twin})  # type: ignore[dict-item, arg-type]


def with_twin_of_another_mind(node: RecordedNode) -> None:
    with_twin_in_group(node)
    node.node.add_device_file("/dev/nvidia1", 195, 1, B)
    node.hold("/dev/nvidia1", "python3")


def without_iommu(node: RecordedNode) -> None:
    for address in list(node.node.devices):
        (node.node.sys / "bus/pci/devices" / address / "iommu_group").unlink()


def with_noiommu_mode(node: RecordedNode) -> None:
    for device in node.node.devices.values():
        (node.node.sys / f"kernel/iommu_groups/{device.group}/name").write_text("vfio-noiommu\n")


def without_nvml(node: RecordedNode) -> None:
    node.nvml = NvmlReport(error="NVML: Driver Not Loaded")


def with_silent_kubelet(node: RecordedNode) -> None:
    node.no_kubelet("/var/lib/kubelet/pod-resources/kubelet.sock: UNAVAILABLE")


def without_kubernetes(node: RecordedNode) -> None:
    with_silent_kubelet(node)
    node.has_kubelet = False


def with_nvidias_plugin(node: RecordedNode) -> None:
    assert node.shape
    node.give("nvidia.com/gpu", node.shape.uuid_of(0), pod="ml/notebook")


def with_time_slices(node: RecordedNode) -> None:
    assert node.shape
    node.give("nvidia.com/gpu.shared", f"{node.shape.uuid_of(0)}::3", pod="ml/slice")


def with_hidden_process(node: RecordedNode) -> None:
    pid = node.hold("/dev/null", "guarded")
    (node.node.proc / str(pid) / "fd/9").write_text("")


def with_nouveau(node: RecordedNode) -> None:
    node.node.add_driver("nouveau")
    node.node._unbind(node.node.devices[A])
    node.node._bind(node.node.devices[A], "nouveau")


def on_no_driver(node: RecordedNode) -> None:
    node.node._unbind(node.node.devices[A])


def with_hung_unbind(node: RecordedNode) -> None:
    node.node.hung.add(A)


def idle_in_passthrough(node: RecordedNode) -> None:
    on_vfio(node, A)


def in_a_vm(node: RecordedNode) -> None:
    on_vfio(node, A)
    node.hold(f"/dev/vfio/{group_of(node, A)}", "qemu-kvm", POD)


def given_to_a_launcher(node: RecordedNode) -> None:
    on_vfio(node, A)
    node.give(RESOURCE, A, pod="vms/virt-launcher-desk")


def still_offered(node: RecordedNode) -> None:
    on_vfio(node, A)
    node.offer(RESOURCE, A)


def on_its_variant_driver(node: RecordedNode) -> None:
    node.node.add_driver("nvgrace_gpu_vfio_pci")
    device = node.node.devices[A]
    node.node._unbind(device)
    node.node._bind(device, "nvgrace_gpu_vfio_pci")
    group = node.node.sys / f"class/vfio/{device.group}"
    group.mkdir(parents=True)
    (group / "dev").write_text(f"243:{device.group}\n")
    node.leave_nvml(A)


def beside_other_vendors(node: RecordedNode) -> None:
    card(node, "0000:41:00.0", vendor="1002", device="740f", pci_class="038000", host_driver="amdgpu")
    card(node, "0000:42:00.0", vendor="8086", device="56c0", pci_class="038000", host_driver="i915")
    card(node, "0000:43:00.0", vendor="19e5", device="d802", pci_class="120000", host_driver="davinci")


def with_foreign_card_in_group(node: RecordedNode) -> None:
    group = group_of(node, A)
    card(
        node,
        "0000:41:00.0",
        vendor="1002",
        device="740f",
        pci_class="038000",
        host_driver="amdgpu",
        group=group,
    )


def with_unread_mask_and_first_process(node: RecordedNode) -> None:
    assert node.shape
    folder = node.node.proc / "1/root/proc/driver/nvidia/gpus" / B
    folder.mkdir(parents=True)
    (folder / "information").write_text(node.shape.information(1))


def with_twin_uuids(node: RecordedNode) -> None:
    first = next(iter(node.nvml.gpus.values()))
    node.nvml = NvmlReport(dict.fromkeys(node.nvml.gpus, first))


def of_unknown_minors(node: RecordedNode) -> None:
    node.nvml = NvmlReport({a: replace(gpu, minor=None) for a, gpu in node.nvml.gpus.items()})


def seen_by_nvml_alone(node: RecordedNode) -> None:
    pid = node.hold("/dev/nvidia-of-another-number", "python3")
    shown = replace(node.nvml.gpus[PciAddress(B)], processes=(pid, 99_999))
    node.nvml = NvmlReport({**node.nvml.gpus, PciAddress(B): shown})


TWO = Shape(gpus=(A, B), model=L40S)
ROWS = (
    Row("data-centre PCIe, idle", nothing, {A: YES, B: YES}, TWO),
    Row(
        "data-centre PCIe, a pod computes",
        computing,
        {A: ("HolderPresent", f"is held by python3 (pid 100, pod {POD}) by /dev/nvidia0"), B: YES},
        TWO,
    ),
    Row(
        "data-centre PCIe, a renderer on a render node",
        with_renderer,
        {A: ("HolderPresent", "Xorg (pid 100) by /dev/dri/renderD384"), B: YES},
        replace(TWO, render=True),
    ),
    Row(
        "a network card shares the group",
        with_nic_in_group,
        {A: ("GroupNotViable", "with 0000:3c:00.0 (mlx5_core), which cannot go into a VM"), B: YES},
        TWO,
    ),
    Row("a bridge shares the group", with_bridge_in_group, {A: YES, B: YES}, TWO),
    Row(
        "HGX board with NVSwitch",
        nothing,
        dict.fromkeys(EIGHT, YES),
        Shape(gpus=EIGHT, model=H100, nvswitches=("0000:05:00.0", "0000:06:00.0")),
    ),
    Row(
        "HGX board, an NVSwitch in a GPU's group",
        with_switch_in_group,
        {EIGHT[0]: ("GroupNotViable", "0000:19:00.0 (nvidia-nvswitch)"), **dict.fromkeys(EIGHT[1:], YES)},
        Shape(gpus=EIGHT, model=H100, nvswitches=("0000:05:00.0",)),
    ),
    Row(
        "HGX board, one GPU off the bus",
        nothing,
        {EIGHT[0]: ("OffTheBus", EIGHT[0]), **dict.fromkeys(EIGHT[1:], YES)},
        Shape(gpus=EIGHT, model=H100, off_bus=frozenset({0})),
    ),
    Row("a GPU off the bus", nothing, {A: ("OffTheBus", A), B: YES}, replace(TWO, off_bus=frozenset({0}))),
    Row(
        "workstation: the console on one card",
        nothing,
        {A: ("BootDisplay", "is this host's boot display"), B: YES},
        Shape(gpus=(A, B), model=RTX4090, console_on=0),
    ),
    Row(
        "workstation: sound, USB and UCSI travel with the card",
        with_companions,
        {A: YES},
        Shape(gpus=(A,), model=RTX4090),
    ),
    Row("workstation without Kubernetes", without_kubernetes, {A: YES}, Shape(gpus=(A,), model=RTX4090)),
    Row(
        "two cards in one group, both to go",
        with_twin_in_group,
        {A: YES, B: YES},
        Shape(gpus=(A,), model=RTX4090),
    ),
    Row(
        "two cards in one group, one in use",
        with_twin_of_another_mind,
        {A: ("GroupNotViable", f"with {B}, which does not move with it"), B: ("HolderPresent", "python3")},
        Shape(gpus=(A,), model=RTX4090),
    ),
    Row(
        "vGPU host with virtual functions",
        nothing,
        {A: ("SriovActive", "has 2 virtual functions: write 0 to its sriov_numvfs first"), B: YES},
        replace(TWO, vfs={0: ("0000:3b:00.4", "0000:3b:00.5")}),
    ),
    Row(
        "vGPU host with a mediated device",
        nothing,
        {A: ("MediatedDevices", "given out as mediated devices"), B: YES},
        replace(TWO, mdevs={0: 1}),
    ),
    Row("vGPU host, parent of no mediated device yet", nothing, {A: YES, B: YES}, replace(TWO, mdevs={0: 0})),
    Row(
        "MIG, divided",
        nothing,
        {A: ("MigEnabled", f"run nvidia-smi -i {A} -mig 0 first"), B: YES},
        Shape(gpus=(A, B), model=A100, mig={0: ("1g.10gb", "3g.40gb")}),
    ),
    Row(
        "MIG on and undivided",
        nothing,
        {A: ("MigEnabled", "is in MIG mode"), B: YES},
        Shape(gpus=(A, B), model=A100, mig={0: ()}),
    ),
    Row("mixed vendors, in groups of their own", beside_other_vendors, {A: YES, B: YES}, TWO),
    Row(
        "mixed vendors, one group",
        with_foreign_card_in_group,
        {A: ("GroupNotViable", "0000:41:00.0 (amdgpu)"), B: YES},
        TWO,
    ),
    Row(
        "GPU operator: exporter on every GPU",
        with_neighbours_of_the_operator,
        {
            A: ("HolderPresent", f"dcgm-exporter (pid 100, pod {POD}) by /dev/nvidia0"),
            B: ("HolderPresent", "dcgm-exporter"),
        },
        TWO,
    ),
    Row("driver container before its first client", nothing, {A: YES, B: YES}, replace(TWO, known=False)),
    Row(
        "cloud VM without an IOMMU",
        without_iommu,
        {A: ("NoIommu", "switch the IOMMU on in the firmware and boot with intel_iommu=on")},
        Shape(gpus=(A,), model=T4),
    ),
    Row(
        "vfio without an IOMMU",
        with_noiommu_mode,
        {A: ("NoIommu", "has no IOMMU group")},
        Shape(gpus=(A,), model=T4),
    ),
    Row(
        "a container runtime's mount hides a GPU",
        nothing,
        {A: YES, B: YES},
        replace(TWO, masked=(0,)),
    ),
    Row(
        "the same, and NVML does not tell which device file it is",
        of_unknown_minors,
        {A: YES, B: ("CannotTell", f"(/proc/driver/nvidia/gpus/{B}/information does not exist, and NVML")},
        replace(TWO, masked=(0,)),
    ),
    Row(
        "the same, and a process that NVML tells of",
        seen_by_nvml_alone,
        {A: YES, B: ("HolderPresent", "python3")},
        replace(TWO, masked=(0,)),
    ),
    Row(
        "the same, and the host's first process sees it",
        with_unread_mask_and_first_process,
        {A: YES, B: YES},
        replace(TWO, masked=(0,)),
    ),
    Row(
        "NVML does not answer",
        without_nvml,
        {
            A: ("CannotTell", "set agent.runtimeClassName to nvidia, or agent.driverRoot"),
            B: ("CannotTell", "NVML does not report whether it is in MIG mode"),
        },
        TWO,
    ),
    Row(
        "the kubelet does not answer",
        with_silent_kubelet,
        {A: ("KubeletUnreachable", "the kubelet does not answer, so"), B: ("KubeletUnreachable", B)},
        TWO,
    ),
    Row(
        "NVIDIA's device plugin gave a GPU away",
        with_nvidias_plugin,
        {A: ("KubeletAllocated", "to pod ml/notebook"), B: YES},
        TWO,
    ),
    Row(
        "NVIDIA's device plugin with time slices",
        with_time_slices,
        {A: ("KubeletAllocated", "to pod ml/slice"), B: YES},
        TWO,
    ),
    Row(
        "a process hides what it has open",
        with_hidden_process,
        {
            A: ("CannotTell", "cannot read which files guarded (pid 100) has open"),
            B: ("CannotTell", "guarded"),
        },
        TWO,
    ),
    Row(
        "nouveau has a card",
        with_nouveau,
        {A: ("Unsuitable", "is on driver nouveau, which poolmgr does not manage"), B: YES},
        TWO,
    ),
    Row("a card on no driver, as after a crash", on_no_driver, {A: YES, B: YES}, TWO),
    Row(
        "an unbind that hangs in the kernel",
        with_hung_unbind,
        {A: ("UnbindTimedOut", "has not returned from the kernel"), B: YES},
        TWO,
    ),
    Row("in passthrough already", idle_in_passthrough, {A: ("InPlace", ""), B: YES}, TWO),
    Row(
        "idle in passthrough, back to containers",
        idle_in_passthrough,
        {A: YES, B: ("InPlace", "")},
        TWO,
        Mode.SHARED,
    ),
    Row(
        "in a VM",
        in_a_vm,
        {A: ("HolderPresent", "is held by qemu-kvm"), B: ("InPlace", "")},
        TWO,
        Mode.SHARED,
    ),
    Row(
        "given to a launcher that has not opened it",
        given_to_a_launcher,
        {A: ("KubeletAllocated", "to pod vms/virt-launcher-desk"), B: ("InPlace", "")},
        TWO,
        Mode.SHARED,
    ),
    Row(
        "withdrawn and still listed",
        still_offered,
        {A: ("StepWaiting", "the kubelet still lists it as allocatable"), B: ("InPlace", "")},
        TWO,
        Mode.SHARED,
    ),
    Row(
        "Grace Hopper on its variant of vfio-pci",
        on_its_variant_driver,
        {A: YES},
        Shape(gpus=(A,), model=GH200),
        Mode.SHARED,
    ),
    Row(
        "behind Intel's VMD, in a PCI domain of its own",
        nothing,
        {"10000:01:00.0": YES},
        Shape(gpus=("10000:01:00.0",), model=L40S),
    ),
    Row(
        "two GPUs with one UUID",
        with_twin_uuids,
        {A: ("CannotTell", "UUID"), B: ("CannotTell", "UUID")},
        TWO,
    ),
    Row("no GPU at all", nothing, {}),
)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.what) for row in ROWS],
)
async def test_each_gpu_of_a_recorded_node_is_answered_for(row: Row, tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, row.shape)
    row.build(node)
    judged = judge(await node.record())
    said = {a: (answer.reason, answer.message) for a, answer in (await answers(judged, row.to_mode)).items()}
    assert {a: reason for a, (reason, _) in said.items()} == {
        a: reason for a, (reason, _) in row.expect.items()
    }
    for address, (_, part) in row.expect.items():
        assert part in said[address][1]
    assert judged.complete(), "a fresh recording has an answer to every question"


async def test_the_answer_of_a_recorded_node_is_that_of_the_node(tmp_path: Path) -> None:
    """For every row: the file changes nothing."""
    for number, row in enumerate(ROWS):
        node = RecordedNode(tmp_path / str(number), row.shape)
        row.build(node)
        there = ManualControl(node.sources)
        here = judge(await node.record())
        assert await here.look() == await there.look(), row.what


async def test_a_file_of_the_first_version_is_read_by_every_later_release() -> None:
    """Two cards in PCIe slots; an exporter holds one of them. The file is never made anew."""
    judged = judge(Path(__file__).with_name("version_1.json").read_bytes())
    (first, second) = await judged.look()
    assert (first.uuid, first.model, first.memory_mib) == (TWO.uuid_of(0), "NVIDIA L40S", 46068)
    assert [(h.command, h.pod_uid, h.path) for h in first.observed.holders] == [
        ("dcgm-exporter", POD, "/dev/nvidia0")
    ]
    assert second.observed.holders == ()
    assert (second.observed.gpu.driver, second.observed.gpu.iommu_group) == ("nvidia", 2)
