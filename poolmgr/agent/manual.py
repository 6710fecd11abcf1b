"""What an operator does at one node by hand: look, ask, and as a last resort move a GPU.

The node may be this machine or a recording. The checks and decisions are the agent's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from poolmgr.agent import preflight
from poolmgr.agent.accelerators import VFIO_PCI
from poolmgr.agent.decisions import DeviceAction, GpuDecision, could_move, decide
from poolmgr.agent.evidence import check_evidence
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.node_sources import Identity, NodeSources
from poolmgr.agent.nvml import NvmlReport
from poolmgr.agent.observe import Pods
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.rebind import RebindResult
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.node_spec import Desired, GpuNodeSpec
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
    """Looks at a node and asks about it; needs no API server and no running agent."""

    def __init__(self, sources: NodeSources) -> None:
        self._sources = sources
        self._observer = sources.observer(NoPlugins())

    async def look(self, *, ask_nvml: bool = True) -> tuple[Finding, ...]:
        """Every GPU with its holders. The journal adds what NVML cannot tell of a GPU on vfio-pci."""
        sources = self._sources
        report = await sources.nvml.read() if ask_nvml else NvmlReport()
        uuids = {a: known.uuid for a, known in sources.remembered.items()}
        seen = await self._observer.observe(report, uuids, Pods())
        findings = []
        for address, observed in sorted(seen.gpus.items()):
            product = observed.gpu.vendor.product(observed.gpu.function.device_id)
            known, record = report.gpus.get(address), sources.remembered.get(address, Identity())
            findings.append(
                Finding(
                    replace(observed, kubelet_known=observed.kubelet_known or not sources.has_kubelet),
                    observed.uuid or record.uuid,
                    (known.model if known else "") or record.model or product.model,
                    (known.memory_mib if known else 0) or record.memory_mib or product.memory_mib,
                )
            )
        return tuple(findings)

    async def find(self, address: str) -> Finding:
        """One GPU. Raises Rejected with the ones there are."""
        gpus = {f.observed.gpu.address: f for f in await self.look()}
        wanted = PciAddress(address.lower() if address.count(":") == 2 else f"0000:{address.lower()}")
        if wanted not in gpus:
            have = ", ".join(gpus) or "none; see --accelerators"
            raise Rejected(Reason.NOT_FOUND, f"{wanted} is not a GPU of this node; it has: {have}")
        return gpus[wanted]

    def complete(self) -> Verdict:
        """CannotTell where a look so far asked something to which a recording has no answer."""
        gaps = self._sources.gaps()
        if not gaps:
            return preflight.OK
        more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        return Verdict(
            False,
            Reason.CANNOT_TELL,
            f"the recording says nothing about {', '.join(gaps[:3])}{more}, at which this release looks: record the node "
            "again with it",
        )

    def could_move(self, observed: ObservedGpu) -> Verdict:
        """As the agent reports it."""
        complete = self.complete()
        return could_move(observed) if complete else complete

    def checks(self, observed: ObservedGpu, to_mode: Mode) -> tuple[tuple[str, Verdict], ...]:
        """Every question that is asked before a GPU goes to `to_mode`, with its answer."""
        complete = self.complete()
        return (*checks(observed, to_mode), *(() if complete else (("recording", complete),)))

    def plan(self, found: Sequence[Finding], to_mode: Mode) -> tuple[GpuDecision, ...]:
        """What the agent would decide if a manager wanted all of these in `to_mode` and had got as far as Rebind."""
        gpus = {finding.observed.gpu.address: finding.observed for finding in found}
        plan_id, moving = PlanId("manual"), tuple(gpus)
        transition = Transition(NodeName(""), plan_id, LeaseEpoch(0), to_mode, moving, Step.REBIND, 0.0, 0.0)
        spec = GpuNodeSpec(0, {address: Desired(to_mode, plan_id) for address in moving}, transition)
        complete = self.complete()
        return tuple(
            decision
            if complete or decision.action is not DeviceAction.REBIND
            else replace(decision, action=DeviceAction.WAIT, reason=complete.reason, message=complete.message)
            for decision in decide(spec, gpus, {}, 0, 0.0)
        )

    async def rebind(self, gpu: Accelerator, to_mode: Mode) -> RebindResult:
        """Move it now. The caller has looked at `checks` first."""
        return await self._sources.rebinder(self._observer).rebind(gpu.address, to_mode)


def checks(observed: ObservedGpu, to_mode: Mode) -> tuple[tuple[str, Verdict], ...]:
    """Those that the node itself answers."""
    gpu = observed.gpu
    in_flight = Verdict(True, Reason.IN_PLACE)
    if observed.write_in_flight:
        sentence = f"an earlier write about {gpu.address} has not returned from the kernel: reboot the node"
        in_flight = Verdict(False, Reason.UNBIND_TIMED_OUT, sentence)
    offered = Verdict(True, Reason.IN_PLACE)
    if observed.listed and to_mode is Mode.SHARED:
        sentence = (
            f"the kubelet offers {gpu.address} to pods, so a pod may get it at any moment: let the agent withdraw "
            "it (change the GPUPool) or stop the agent first"
        )
        offered = Verdict(False, Reason.STEP_WAITING, sentence)
    return (
        ("bus", preflight.check_answers(gpu)),
        ("hardware", preflight.check_hardware(gpu, to_mode)),
        ("card state", preflight.check_state(gpu, to_mode, mig_enabled=observed.mig_enabled)),
        (
            "evidence",
            check_evidence(observed),
        ),
        ("kernel", in_flight),
        ("kubelet", offered),
        ("holders", preflight.check_holders(gpu, observed.holders, asked=False)),
        ("pods", preflight.check_pods(gpu, observed.allocated_to, observed.shared_pods)),
    )


def describe_steps(gpu: Accelerator, to_mode: Mode) -> tuple[str, ...]:
    """What a rebind would do, for `--dry-run`."""
    driver = VFIO_PCI if to_mode is Mode.PASSTHROUGH else gpu.vendor.host_drivers[0]
    if gpu.mode is to_mode and not gpu.left_over_companions:
        return (f"nothing: {gpu.address} is already on {gpu.driver}",)
    order = " then ".join(f.address for f in gpu.functions)
    return (
        f"look for holders of {gpu.address} once more",
        f"reserve {order} ({driver} for {gpu.address})",
        *(f"unbind {f.address} from {f.driver}" for f in gpu.functions if f.driver),
        f"let the kernel probe {order}",
        f"read back that {gpu.address} is on {driver} and answers",
    )
