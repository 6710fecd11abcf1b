"""What an operator does at one node by hand: look, ask, and as a last resort move a GPU.

The same checks as the agent's own; the only thing left out is the plan.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from poolmgr.agent import preflight
from poolmgr.agent.accelerators import VFIO_PCI, load_catalogue
from poolmgr.agent.decisions import ObservedGpu
from poolmgr.agent.evidence import check_evidence
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.journal import Journal
from poolmgr.agent.kernelmodules import KernelModules
from poolmgr.agent.kernelwrite import ChildWriter
from poolmgr.agent.nvml import Nvml, NvmlReport
from poolmgr.agent.observe import NodeObserver, Pods
from poolmgr.agent.podresources import PodResources
from poolmgr.agent.rebind import Rebinder, RebindResult
from poolmgr.agent.settings import AgentSettings
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason


class NoPlugins:
    """Stands where the agent has its device plugin: this process serves none."""

    error = ""
    resource_names: frozenset[str] = frozenset()

    async def set_offers(self, offers: Iterable[object]) -> None:
        """Nothing is served here."""

    def recently_granted(self, address: PciAddress) -> bool:
        return False

    async def stop(self) -> None:
        """Nothing runs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A GPU and all that is known of it here."""

    observed: ObservedGpu
    uuid: str
    model: str
    memory_mib: int


class ManualControl:
    """Reads the node directly; needs no API server and no running agent."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        catalogue = load_catalogue(settings.accelerators)
        sysfs = Sysfs(ChildWriter(settings.writes_dir, settings.proc_root), settings.sys_root)
        kubelet = PodResources(settings.kubelet_dir / "pod-resources/kubelet.sock")
        self._nvml = Nvml(driver_root=settings.driver_root)
        self._observer = NodeObserver(sysfs, catalogue, kubelet, NoPlugins(), proc=settings.proc_root)
        self._rebinder = Rebinder(
            sysfs,
            catalogue,
            KernelModules(sysfs),
            self._nvml,
            self._observer.holders_of,
            proc=settings.proc_root,
            unbind_deadline_seconds=settings.unbind_deadline_seconds,
        )

    async def look(self, *, ask_nvml: bool = True) -> tuple[Finding, ...]:
        """Every GPU with its holders. The journal adds what NVML cannot tell of a GPU on vfio-pci."""
        report = await self._nvml.read() if ask_nvml else NvmlReport()
        mig = {a: gpu.mig_enabled for a, gpu in report.gpus.items()}
        records = Journal.peek(self._settings.state_dir / "journal.json").devices
        uuids = {PciAddress(a): record.uuid for a, record in records.items()}
        uuids |= {a: gpu.uuid for a, gpu in report.gpus.items()}
        seen = await self._observer.observe(uuids, mig, Pods())
        # A machine without a kubelet, such as a workstation, has no pods that it could be asked about.
        alone = not self._settings.kubelet_dir.exists()
        findings = []
        for address, observed in sorted(seen.gpus.items()):
            product = observed.gpu.vendor.product(observed.gpu.function.device_id)
            known, record = report.gpus.get(address), records.get(address)
            findings.append(
                Finding(
                    replace(observed, kubelet_known=observed.kubelet_known or alone),
                    observed.uuid,
                    (known.model if known else "") or (record.model if record else "") or product.model,
                    (known.memory_mib if known else 0)
                    or (record.memory_mib if record else 0)
                    or product.memory_mib,
                )
            )
        return tuple(findings)

    async def find(self, address: str) -> ObservedGpu:
        """One GPU. Raises Rejected with the ones there are."""
        gpus = {f.observed.gpu.address: f.observed for f in await self.look()}
        wanted = PciAddress(address.lower() if address.count(":") == 2 else f"0000:{address.lower()}")
        if wanted not in gpus:
            have = ", ".join(gpus) or "none; see --accelerators"
            raise Rejected(Reason.NOT_FOUND, f"{wanted} is no GPU of this node (there are: {have})")
        return gpus[wanted]

    async def rebind(self, gpu: Accelerator, to_mode: Mode) -> RebindResult:
        """Move it now. The caller has looked at `checks` first."""
        return await self._rebinder.rebind(gpu.address, to_mode)


def checks(observed: ObservedGpu, to_mode: Mode) -> tuple[tuple[str, Verdict], ...]:
    """Every question that is asked before a GPU goes to `to_mode`, with its answer."""
    gpu = observed.gpu
    in_flight = Verdict(True, Reason.IN_PLACE)
    if observed.write_in_flight:
        sentence = f"an earlier write about {gpu.address} has not returned from the kernel: reboot the node"
        in_flight = Verdict(False, Reason.UNBIND_TIMED_OUT, sentence)
    offered = Verdict(True, Reason.IN_PLACE)
    if observed.listed and to_mode is Mode.SHARED:
        sentence = (
            f"the kubelet offers {gpu.address} to pods, so one may get it at any moment: let the agent withdraw "
            "it (change the GPUPool) or stop the agent first"
        )
        offered = Verdict(False, Reason.STEP_WAITING, sentence)
    return (
        ("hardware", preflight.check_hardware(gpu, to_mode)),
        ("card state", preflight.check_state(gpu, to_mode, mig_enabled=observed.mig_enabled)),
        (
            "evidence",
            check_evidence(
                gpu,
                uuid=observed.uuid,
                mig_enabled=observed.mig_enabled,
                kubelet_known=observed.kubelet_known,
                holders=observed.holders,
            ),
        ),
        ("kernel", in_flight),
        ("kubelet", offered),
        ("holders", preflight.check_holders(gpu, observed.holders)),
        ("pods", preflight.check_pods(gpu, observed.allocated_to, observed.shared_pods)),
    )


def describe_steps(gpu: Accelerator, to_mode: Mode) -> tuple[str, ...]:
    """What a rebind would do, for `--dry-run`."""
    driver = VFIO_PCI if to_mode is Mode.PASSTHROUGH else gpu.vendor.host_drivers[0]
    if gpu.mode is to_mode and not gpu.left_over_companions:
        return (f"nothing: {gpu.address} already is on {gpu.driver}",)
    order = " then ".join(f.address for f in gpu.functions)
    return (
        f"look for holders of {gpu.address} once more",
        f"reserve {order} ({driver} for {gpu.address})",
        *(f"unbind {f.address} from {f.driver}" for f in gpu.functions if f.driver),
        f"let the kernel probe {order}",
        f"read back that {gpu.address} is on {driver} and answers",
    )
