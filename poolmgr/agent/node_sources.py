"""All through which the agent learns of its node, in one value: the running node's own here, a recording's in
`recording.replay`. Whatever judges a node is given one of these and does not know which.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from poolmgr.agent.accelerators import Catalogue, load_catalogue
from poolmgr.agent.assignments import CLAIM_DRIVERS_WITHOUT_GPUS
from poolmgr.agent.files import KERNEL_FILES, NodeFiles
from poolmgr.agent.journal import Journal
from poolmgr.agent.kernelmodules import KernelModules
from poolmgr.agent.kernelwrite import ChildWriter
from poolmgr.agent.nvml import Nvml, NvmlReport
from poolmgr.agent.observe import NodeObserver, Plugins
from poolmgr.agent.podresources import KubeletAnswer, KubeletView, PodResources
from poolmgr.agent.rebind import UNBIND_DEADLINE_SECONDS, Rebinder
from poolmgr.agent.settings import AgentSettings
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import PciAddress


class KubeletSource(Protocol):
    async def ask(self) -> KubeletAnswer: ...

    async def read(self, resource_names: Iterable[str]) -> KubeletView: ...


class NvmlSource(Protocol):
    async def read(self) -> NvmlReport: ...

    async def quiesce(self, address: PciAddress) -> str: ...

    async def resume(self, address: PciAddress) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What the agent wrote down of a GPU while NVML could be asked about it."""

    uuid: str = ""
    model: str = ""
    memory_mib: int = 0


def no_gaps() -> tuple[str, ...]:
    """A running node can be asked anything."""
    return ()


@dataclass(frozen=True, slots=True)
class NodeSources:
    catalogue: Catalogue
    sysfs: Sysfs
    kubelet: KubeletSource
    nvml: NvmlSource
    proc: Path = Path("/proc")
    remembered: Mapping[PciAddress, Identity] = field(default_factory=dict)
    """From the journal: of a GPU on vfio-pci nobody else can tell."""
    has_kubelet: bool = True
    """A machine without a kubelet, such as a workstation, has no pods that it could be asked about."""
    claim_drivers_without_gpus: tuple[str, ...] = CLAIM_DRIVERS_WITHOUT_GPUS
    driver_in_container: bool = False
    """The vendor's driver is loaded by a container of its own, not by the host."""
    gaps: Callable[[], tuple[str, ...]] = no_gaps
    """Questions that were asked meanwhile and that a recording has no answer to."""

    def observer(self, plugins: Plugins) -> NodeObserver:
        return NodeObserver(
            self.sysfs,
            self.catalogue,
            self.kubelet,
            plugins,
            proc=self.proc,
            claim_drivers_without_gpus=self.claim_drivers_without_gpus,
        )

    def _drivers_of_containers(self) -> frozenset[str]:
        if not self.driver_in_container:
            return frozenset()
        return frozenset(driver for vendor in self.catalogue.vendors for driver in vendor.host_drivers)

    def rebinder(
        self, observer: NodeObserver, unbind_deadline_seconds: float = UNBIND_DEADLINE_SECONDS
    ) -> Rebinder:
        return Rebinder(
            self.sysfs,
            self.catalogue,
            KernelModules(self.sysfs, self._drivers_of_containers()),
            self.nvml,
            observer.holders_of,
            proc=self.proc,
            unbind_deadline_seconds=unbind_deadline_seconds,
        )


def of_this_node(settings: AgentSettings, files: NodeFiles = KERNEL_FILES) -> NodeSources:
    """The machine's own. Raises Rejected where an accelerator file cannot be read."""
    records = Journal.peek(settings.state_dir / "journal.json").devices
    return NodeSources(
        load_catalogue(settings.accelerators),
        Sysfs(ChildWriter(settings.writes_dir, settings.proc_root), settings.sys_root, files),
        PodResources(settings.kubelet_dir / "pod-resources/kubelet.sock"),
        Nvml(driver_root=settings.driver_root),
        settings.proc_root,
        {PciAddress(a): Identity(r.uuid, r.model, r.memory_mib) for a, r in records.items()},
        settings.kubelet_dir.exists(),
        settings.claim_drivers_without_gpus,
        driver_in_container=settings.driver_in_container,
    )
