"""What one look makes of witnesses that are missing, or tell different things."""

from dataclasses import replace
from pathlib import Path

import pytest

from poolmgr.agent.nvml import NvmlGpu, NvmlReport
from poolmgr.agent.observe import NodeObserver, Pods
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.podresources import PodName
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import GpuUuid, PciAddress
from tests.fake_cluster_of_agent import CATALOGUE, FakeKubelet, FakePlugins
from tests.fake_node import FakeNode

A, B = PciAddress("0000:3b:00.0"), PciAddress("0000:86:00.0")
NVML_A = NvmlGpu(GpuUuid("GPU-a"), "NVIDIA A10", 23028, minor=0)
NVML_B = NvmlGpu(GpuUuid("GPU-b"), "NVIDIA A10", 23028, minor=1)
NOTEBOOK, OTHER = PodName("ml", "notebook"), PodName("ml", "other")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.node = FakeNode(folder)
        for minor, (address, uuid) in enumerate(((A, "GPU-a"), (B, "GPU-b"))):
            self.node.add_device(
                address, vendor="10de", device="2236", pci_class="030200", host_driver="nvidia"
            )
            self.node.add_device_file(f"/dev/nvidia{minor}", 195, minor, address)
            self.driver_says(address, f"Device Minor: \t {minor}\nGPU UUID: \t {uuid}\n")
        self.kubelet = FakeKubelet(self.node)
        self.nvml = NvmlReport({A: NVML_A, B: NVML_B})
        sysfs = Sysfs(self.node, self.node.sys, self.node.files)
        self.observer = NodeObserver(
            sysfs, CATALOGUE, self.kubelet, FakePlugins(self.node), proc=self.node.proc
        )

    def driver_says(self, address: str, text: str) -> None:
        folder = self.node.proc / "driver/nvidia/gpus" / address
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "information").write_text(text)

    def mask(self, address: str) -> None:
        """As a container runtime's mount over /proc/driver/nvidia."""
        (self.node.proc / "driver/nvidia/gpus" / address / "information").unlink()

    def nvml_says(self, address: PciAddress, **other: object) -> None:
        self.nvml = NvmlReport({**self.nvml.gpus, address: replace(self.nvml.gpus[address], **other)})  # type: ignore[arg-type]

    async def look(self, pods: Pods | None = None, **remembered: str) -> dict[PciAddress, ObservedGpu]:
        uuids = {A: remembered.get("a", ""), B: remembered.get("b", "")}
        return (await self.observer.observe(self.nvml, uuids, pods or Pods())).gpus


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_witnesses_that_agree_leave_no_doubt(bench: Bench) -> None:
    found = await bench.look()
    assert [(seen.uuid, seen.doubts, seen.gpu.device_files_known) for seen in found.values()] == [
        ("GPU-a", (), True),
        ("GPU-b", (), True),
    ]


async def test_a_device_file_that_a_mount_hides_is_known_from_nvml(bench: Bench) -> None:
    bench.mask(A)
    pid = bench.node.start_process("/dev/nvidia0", command="python3")
    seen = (await bench.look())[A]
    assert seen.gpu.device_files_known
    assert [holder.pid for holder in seen.holders] == [pid]
    assert [holder.pid for holder in bench.observer.holders_of(seen.gpu)] == [pid], "the last look as well"


async def test_a_device_file_that_nobody_tells_of_is_unknown_and_holds_the_last_look(bench: Bench) -> None:
    seen = (await bench.look())[A]
    bench.mask(A)
    bench.nvml_says(A, minor=None)
    assert not (await bench.look())[A].gpu.device_files_known
    (unseen,) = bench.observer.holders_of(seen.gpu)
    assert unseen.path == "device files whose numbers are not known"


async def test_a_process_that_nvml_tells_of_holds_the_gpu_whatever_it_has_open(bench: Bench) -> None:
    pid = bench.node.start_process("/dev/nvidia7", command="python3")
    bench.nvml_says(A, processes=(pid, 99_999))
    found = await bench.look()
    assert [(h.pid, h.command, h.path) for h in found[A].holders] == [(pid, "python3", "NVML")], (
        "the other has ended"
    )
    assert [h.pid for h in bench.observer.holders_of(found[A].gpu)] == [pid]
    bench.node.end_process(pid)
    assert (await bench.look())[A].holders == ()


async def test_a_process_that_both_tell_of_is_one_holder(bench: Bench) -> None:
    pid = bench.node.start_process("/dev/nvidia0", command="python3")
    bench.nvml_says(A, processes=(pid,))
    assert [h.path for h in (await bench.look())[A].holders] == ["/dev/nvidia0"]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"uuid": "GPU-c"}, "the UUID GPU-c, but the driver's own file says GPU-a"),
        ({"minor": 4}, "/dev/nvidia4"),
    ],
)
async def test_nvml_and_the_driver_contradict_each_other(
    bench: Bench, said: dict[str, object], what: str
) -> None:
    bench.nvml_says(A, **said)
    found = await bench.look()
    (doubt,) = found[A].doubts
    assert what in doubt.what and doubt.remedy
    assert found[B].doubts == ()


async def test_two_minors_are_both_looked_at(bench: Bench) -> None:
    bench.nvml_says(A, minor=4)
    bench.node.add_device_file("/dev/nvidia4", 195, 4)
    pids = {bench.node.start_process(path) for path in ("/dev/nvidia0", "/dev/nvidia4")}
    assert {holder.pid for holder in (await bench.look())[A].holders} == pids


async def test_two_gpus_of_one_uuid_leave_a_doubt_about_both(bench: Bench) -> None:
    bench.driver_says(B, "Device Minor: \t 1\n")
    bench.nvml_says(B, uuid=GpuUuid("GPU-a"))
    found = await bench.look()
    assert ["the same UUID GPU-a" in seen.doubts[0].what for seen in found.values()] == [True, True]


async def test_without_nvml_the_driver_tells_the_uuid_and_memory_does_not(bench: Bench) -> None:
    """The card may have been changed since."""
    bench.nvml = NvmlReport(error="no library")
    bench.driver_says(B, "Device Minor: \t 1\nGPU UUID: \t GPU-????????-????-????-????-????????????\n")
    found = await bench.look(a="GPU-old", b="GPU-old-b")
    assert (found[A].uuid, found[B].uuid) == ("GPU-a", "")
    assert (found[A].mig_enabled, found[B].mig_enabled) == (None, None)


async def test_slices_by_any_name_that_the_gpu_had_keep_it(bench: Bench) -> None:
    slices = {"GPU-old": ("ml/notebook",), "GPU-a": ("ml/other",)}
    found = await bench.look(Pods(slices=slices), a="GPU-old")
    assert found[A].shared_pods == ("ml/notebook", "ml/other")
    assert found[B].shared_pods == () and found[B].doubts == ()


async def test_all_pods_of_a_gpu_that_is_shared_in_time_are_told(bench: Bench) -> None:
    bench.kubelet.given_by_others = [
        (pod, "nvidia.com/gpu", f"GPU-a::{n}") for n, pod in enumerate((NOTEBOOK, OTHER))
    ]
    seen = (await bench.look(Pods({NOTEBOOK: "uid-1", OTHER: "uid-2"})))[A]
    assert seen.allocated_to == "uid-1"
    assert [(h.pid, h.pod_uid) for h in seen.holders] == [(0, "uid-2")]


async def test_doubts_about_shared_gpus_are_none_about_the_others_and_those_about_claims_are(
    bench: Bench,
) -> None:
    bench.node._unbind(bench.node.devices[B])
    bench.node._bind(bench.node.devices[B], "vfio-pci")
    bench.nvml = NvmlReport({A: NVML_A})
    bench.kubelet.given_by_others = [(NOTEBOOK, "nvidia.com/gpu", "GPU-z")]
    found = await bench.look()
    assert (len(found[A].doubts), len(found[B].doubts)) == (1, 0)
    bench.kubelet.claims = [(NOTEBOOK, "gpu.nvidia.com")]
    found = await bench.look()
    assert (len(found[A].doubts), len(found[B].doubts)) == (2, 1)


async def test_nvml_that_does_not_list_processes_leaves_a_doubt_about_that_gpu_alone(bench: Bench) -> None:
    bench.nvml_says(A, processes_known=False)
    found = await bench.look()
    assert ["which processes" in doubt.what for doubt in found[A].doubts] == [True]
    assert found[B].doubts == ()


async def test_of_pods_listed_a_while_ago_those_count_that_the_kubelet_still_has(bench: Bench) -> None:
    """A slice and a claim of which the kubelet does not tell which GPU they are of."""
    ended = PodName("ml", "ended")
    pods = Pods({}, {"GPU-gone": (str(NOTEBOOK), str(ended))}, frozenset({NOTEBOOK, ended}))

    async def doubts(*there: PodName) -> list[str]:
        bench.kubelet.pods = frozenset(there)
        seen = await bench.observer.observe(bench.nvml, {}, pods, listed_now=False)
        return [doubt.what for doubt in seen.gpus[A].doubts]

    assert await doubts() == []
    claim, piece = await doubts(NOTEBOOK)
    assert "pod ml/notebook uses a ResourceClaim" in claim and "pod ml/notebook on GPU-gone" in piece
