"""What the inventory reads from sysfs, and who it finds holding a GPU."""

import os
import shutil
from pathlib import Path

import pytest

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.holders import UNREADABLE, check_sees_all_processes, find_holders
from poolmgr.agent.inventory import Accelerator, DeviceFile, inspect, read_mode, scan
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from tests.fake_node import FakeFiles, FakeNode

A = "0000:3b:00.0"


def look(node: FakeNode) -> dict[str, Accelerator]:
    found = scan(Sysfs(node, node.sys), load_catalogue(["nvidia", "emulated"]), node.proc)
    return {gpu.address: gpu for gpu in found}


def nvidia(node: FakeNode, address: str = A, **more: object) -> None:
    settings = {"vendor": "10de", "device": "2236", "pci_class": "030200", "host_driver": "nvidia"}
    node.add_device(address, **{**settings, **more})  # type: ignore[arg-type]


def test_finds_gpus_by_vendor_and_class_and_leaves_the_rest(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, numa=1)
    node.add_device("0000:00:1f.0", vendor="8086", device="0001", pci_class="060100", driver="")
    gpu = look(node)[A]
    assert list(look(node)) == [A]
    assert (gpu.driver, gpu.mode, gpu.numa_node, gpu.iommu_group) == ("nvidia", Mode.SHARED, 1, 1)
    assert gpu.resource_name == "nvidia.com/GA102GL_A10"


def test_the_minor_number_is_the_drivers_own_word(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node)
    folder = node.proc / "driver/nvidia/gpus" / A
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA A10\nDevice Minor: \t 3\n")
    assert look(node)[A].device_files == (DeviceFile("nvidia3", 195, 3),)


def test_a_variant_of_vfio_counts_as_passthrough(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_driver("nvgrace_gpu_vfio_pci")
    nvidia(node, device="2342", driver="nvgrace_gpu_vfio_pci")
    assert look(node)[A].mode is Mode.PASSTHROUGH


def test_bridges_of_the_group_do_not_matter_and_strangers_do(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, group=5)
    node.add_device("0000:3a:00.0", vendor="8086", pci_class="060400", group=5, driver="")
    assert look(node)[A].strangers == ()
    node.add_driver("ixgbe")
    node.add_device("0000:3c:00.0", vendor="8086", pci_class="020000", group=5, host_driver="ixgbe")
    assert [f.address for f in look(node)[A].strangers] == ["0000:3c:00.0"]


def test_pretended_groups_of_noiommu_mode_are_none(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, group=0)
    (node.sys / "kernel/iommu_groups/0/name").write_text("vfio-noiommu\n")
    assert look(node)[A].iommu_group is None


def test_gpus_beside_an_nvswitch_form_one_domain(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node)
    assert look(node)[A].nvswitch_domain == ""
    nvidia(node, "0000:c1:00.0", device="22a3", pci_class="068000", driver="")
    assert look(node)[A].nvswitch_domain == "nvswitch"


def test_a_look_at_one_gpu_sees_what_the_scan_sees_of_it(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, group=5, numa=1)
    nvidia(node, "0000:3b:00.1", device="1aef", pci_class="040300", group=5, host_driver="snd_hda_intel")
    nvidia(node, "0000:3c:00.0", group=5)
    nvidia(node, "0000:3d:00.0", group=6, driver="vfio-pci")
    node.add_device("0000:3a:00.0", vendor="8086", pci_class="060400", group=5, driver="")
    node.add_driver("ixgbe")
    node.add_device("0000:3e:00.0", vendor="8086", pci_class="020000", group=5, host_driver="ixgbe")
    folder = node.proc / "driver/nvidia/gpus" / A
    folder.mkdir(parents=True)
    (folder / "information").write_text("Device Minor: \t 3\n")
    scanned = look(node)
    assert [len(members) for members in (scanned[A].companions, scanned[A].peers, scanned[A].strangers)] == [
        1
    ] * 3
    sysfs, catalogue = Sysfs(node, node.sys), load_catalogue(["nvidia"])
    for address, gpu in scanned.items():
        assert inspect(sysfs, catalogue, PciAddress(address), node.proc) == gpu
        assert read_mode(sysfs, catalogue, PciAddress(address)) is gpu.mode
    for other in ("0000:3e:00.0", "0000:99:00.0"):
        assert inspect(sysfs, catalogue, PciAddress(other), node.proc) is None
        assert read_mode(sysfs, catalogue, PciAddress(other)) is None


def test_a_holder_is_found_by_number_whatever_its_path_says(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    node._numbers["/mnt/renamed"] = (243, 7)
    pod = "0f0e0d0c-0000-4000-8000-000000000001"
    pid = node.start_process("/mnt/renamed", command="qemu-system-x86", pod_uid=pod.replace("-", "_"))
    node.start_process("/dev/vfio/8", command="other")
    holders = find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)]
    assert [(h.pid, h.command, h.pod_uid, h.path) for h in holders] == [
        (pid, "qemu-system-x86", pod, "/mnt/renamed")
    ]


def test_an_open_vfio_device_counts_where_the_kernel_names_it(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    pid = node.start_process("anon_inode:[vfio-device]", command="vmm")
    info = node.proc / str(pid) / "fdinfo"
    info.mkdir()
    (info / "7").write_text(f"pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:3a/{A}\n")
    holders = find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)]
    assert [h.pid for h in holders] == [pid]


def test_a_vfio_device_that_nobody_names_may_be_any_gpu(tmp_path: Path) -> None:
    """Of a kernel before 6.18, and its group's file is closed."""
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    pid = node.start_process("anon_inode:[vfio-device]", command="vmm")
    info = node.proc / str(pid) / "fdinfo"
    info.mkdir()
    (info / "7").write_text("pos:\t0\n")
    (holder,) = find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)]
    assert (holder.pid, holder.path) == (pid, UNREADABLE)
    (node.proc / str(pid) / "fd/8").symlink_to("/dev/vfio/8")
    node.add_device_file("/dev/vfio/8", 243, 8)
    assert find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)] == (), (
        "it has another group's"
    )


def test_a_holder_of_a_mig_device_alone_is_found(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node)
    driver = node.proc / "driver/nvidia"
    for path, text in {
        f"gpus/{A}/information": "Device Minor: \t 2\n",
        "capabilities/gpu2/mig/gi1/access": "DeviceFileMinor: 12\n",
        "capabilities/gpu2/mig/gi1/ci0/access": "DeviceFileMinor: 13\n",
        "capabilities/gpu3/mig/gi1/access": "DeviceFileMinor: 30\n",
    }.items():
        (driver / path).parent.mkdir(parents=True, exist_ok=True)
        (driver / path).write_text(text)
    (node.proc / "devices").write_text("Character devices:\n195 nvidia\n236 nvidia-caps\n")
    pids = set()
    for minor in (12, 13, 30):
        node.add_device_file(f"/dev/nvidia-caps/nvidia-cap{minor}", 236, minor)
        pids.add(node.start_process(f"/dev/nvidia-caps/nvidia-cap{minor}"))
    found = find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)]
    assert {holder.pid for holder in found} == pids - {max(pids)}, "the last one's is another GPU's"


def test_a_holder_may_call_itself_anything(tmp_path: Path) -> None:
    """A container's process chooses its name, and with its own /dev the name of its device file."""
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    path = os.fsdecode(b"/dev/\xff\x1b[31m")
    node._numbers[path] = (243, 7)
    pid = node.start_process(path)
    (node.proc / str(pid) / "comm").write_bytes(b"\xff\xfe\x80\x1b[2J\n")
    (node.proc / str(pid) / "cgroup").write_bytes(b"0::/\xff/kubepods\n")
    (holder,) = find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)]
    assert holder.pid == pid
    assert holder.command.encode() and holder.command.isprintable()
    assert holder.path.encode() and holder.path.isprintable()


def test_a_process_that_ends_meanwhile_is_no_error(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    pid = node.start_process("/dev/vfio/7")
    (node.proc / str(pid) / "fd/7").unlink()
    (node.proc / "4711").mkdir()  # no fd folder any more
    assert find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)] == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="without root it does not start anyway")
def test_an_agent_in_a_pid_namespace_of_its_own_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026532999]")
    with pytest.raises(Rejected, match="hostPID: true"):
        check_sees_all_processes(tmp_path)
    check_sees_all_processes(tmp_path, any_pid_namespace=True)


@pytest.mark.parametrize("hidden", ["its folder", "one link"])
def test_a_process_whose_open_files_cannot_be_read_may_hold_every_gpu(tmp_path: Path, hidden: str) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    pid = node.start_process("/dev/null", command="guarded")
    folder = node.proc / str(pid) / "fd"
    if hidden == "its folder":  # any error but "it has ended" will do: root is refused nothing in a test
        shutil.rmtree(folder)
        folder.write_text("")
    else:
        (folder / "9").write_text("")
    (holder,) = find_holders(look(node).values(), node.proc, node.files)[PciAddress(A)]
    assert (holder.pid, holder.command, holder.path) == (pid, "guarded", UNREADABLE)


def test_a_file_system_that_refuses_root_hides_no_device_and_a_device_that_does_is_not_overlooked(
    tmp_path: Path,
) -> None:
    node = FakeNode(tmp_path)
    nvidia(node, driver="vfio-pci", group=7)
    pid = node.start_process("/home/ada/mounted/file")

    def refused(path: str) -> tuple[int, int] | None:
        if str(Path(path).readlink()) in ("/home/ada/mounted/file", "/dev/guarded"):
            raise PermissionError(path)
        return node.number(path)

    assert find_holders(look(node).values(), node.proc, FakeFiles(refused))[PciAddress(A)] == ()
    (node.proc / str(pid) / "fd/8").symlink_to("/dev/guarded")
    (holder,) = find_holders(look(node).values(), node.proc, FakeFiles(refused))[PciAddress(A)]
    assert holder.path == UNREADABLE
