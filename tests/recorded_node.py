"""A node of any shape to be recorded: the fake kernel's files, what NVML and the kubelet say, and the recording of it.

node = RecordedNode(folder, Shape(gpus=("0000:3b:00.0",)))
node.hold("/dev/nvidia0", "python3")
judge(node.record()).plan(...)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.node.shape import Shape
from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.manual import Finding, ManualControl
from poolmgr.agent.node_sources import Identity, NodeSources
from poolmgr.agent.nvml import NvmlGpu, NvmlReport
from poolmgr.agent.podresources import KubeletAnswer
from poolmgr.agent.recording import format as recording_format
from poolmgr.agent.recording.replay import RecordedKubelet, RecordedNvml, sources_of
from poolmgr.agent.recording.take import RecordingFiles, take
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import GpuUuid, PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from tests.fake_node import FakeClock, FakeNode
from tests.fake_nvidia import FakeNvidia


@dataclass(frozen=True)
class Answer:
    """What is said of one GPU: of itself, and of moving it to `to_mode` with the others."""

    moves: bool
    reason: str
    message: str
    could_move: Verdict


class RecordedNode:
    """NVML tells of the shape's GPUs, and the kubelet has given nothing, until somebody says otherwise."""

    def __init__(self, root: Path, shape: Shape | None = None, *, accelerators: Sequence[str] = ("nvidia",)):
        self.node = FakeNode(root)
        self.accelerators = tuple(accelerators)
        self.kubelet = KubeletAnswer()
        self.has_kubelet = True
        self.remembered: dict[PciAddress, Identity] = {}
        self.nvml = NvmlReport()
        self.shape = shape
        if shape is not None:
            FakeNvidia(self.node, shape)
            self.nvml = NvmlReport(
                {
                    PciAddress(address): NvmlGpu(
                        GpuUuid(shape.uuid_of(index)),
                        shape.model.name,
                        shape.model.memory_mib,
                        mig_enabled=index in shape.mig,
                        minor=index,
                    )
                    for index, address in enumerate(shape.gpus)
                    if index not in shape.off_bus
                }
            )

    def hold(self, path: str, command: str = "python3", pod_uid: str = "") -> int:
        return self.node.start_process(path, command=command, pod_uid=pod_uid)

    def give(self, resource: str, *device_ids: str, pod: str = "ml/notebook") -> None:
        """The kubelet gave these devices to a pod."""
        namespace, _, name = pod.partition("/")
        found = self.kubelet.pods.pod_resources.add(name=name, namespace=namespace)
        found.containers.add(name="main").devices.add(resource_name=resource, device_ids=device_ids)

    def offer(self, resource: str, *device_ids: str) -> None:
        """The kubelet lists these devices as allocatable."""
        self.kubelet.allocatable.devices.add(resource_name=resource, device_ids=device_ids)

    def no_kubelet(self, error: str) -> None:
        self.kubelet = KubeletAnswer(error=error)

    def leave_nvml(self, *addresses: str) -> None:
        """On vfio-pci a GPU is not NVML's: only the journal remembers who it is."""
        for address in map(PciAddress, addresses):
            known = self.nvml.gpus[address]
            self.remembered[address] = Identity(known.uuid, known.model, known.memory_mib)
        rest = {a: gpu for a, gpu in self.nvml.gpus.items() if a not in addresses}
        self.nvml = replace(self.nvml, gpus=rest)

    @property
    def sources(self) -> NodeSources:
        """As the node itself is looked at."""
        return self._sources(RecordingFiles(self.node.files, self.node.sys, self.node.proc))

    async def record(self) -> bytes:
        """The file's content."""
        files = RecordingFiles(self.node.files, self.node.sys, self.node.proc)
        return recording_format.encode(
            await take(self._sources(files), files, self.accelerators, FakeClock())
        )

    def _sources(self, files: RecordingFiles) -> NodeSources:
        return NodeSources(
            load_catalogue(self.accelerators),
            Sysfs(self.node, self.node.sys, files),
            RecordedKubelet(self.kubelet),
            RecordedNvml(self.nvml),
            self.node.proc,
            self.remembered,
            self.has_kubelet,
        )


def judge(content: bytes) -> ManualControl:
    """Whoever has the file judges it."""
    return ManualControl(sources_of(recording_format.decode(content, Path("node.json"))))


async def answers(node: ManualControl, to_mode: Mode = Mode.PASSTHROUGH) -> dict[str, Answer]:
    """By PCI address."""
    found: tuple[Finding, ...] = await node.look()
    seen = {finding.observed.gpu.address: finding.observed for finding in found}
    return {
        decision.address: Answer(
            decision.action.value == "Rebind",
            decision.reason.value,
            decision.message,
            node.could_move(seen[decision.address]),
        )
        for decision in node.plan(found, to_mode)
    }
