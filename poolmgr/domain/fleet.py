"""The supply side: GPUs, nodes and pools as values."""

from dataclasses import dataclass, field
from enum import StrEnum

from poolmgr.domain.backoff import Backoff, Disturbance
from poolmgr.domain.directives import NO_DIRECTIVES, Directives
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.liveness import HEARD, AgentSign
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.neighbours import NOBODY, Neighbours
from poolmgr.domain.placement import UNSCHEDULABLE_TAINT, FreeResources, HostPort, Taint
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import SharingState

REBINDABLE = Verdict(True, Reason.IN_PLACE)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a GPU's device file open, or a pod that the kubelet gave it to."""

    pid: int
    """In the node's PID namespace; 0 where only the pod is known."""
    command: str
    pod_uid: str = ""
    path: str = ""
    """The device file, e.g. `/dev/vfio/12`."""
    service: str = ""
    """Label by which the service that it belongs to can be paused on the node; empty for all others."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its node's agent last reported it, joined with what the manager wants of it."""

    node: NodeName
    pci_address: PciAddress
    model: str
    """Product name as users write it, e.g. `NVIDIA A10`."""
    memory_mib: int
    observed_mode: Mode | None
    """None while on no driver or on a foreign one."""
    phase: DevicePhase = DevicePhase.READY
    uuid: GpuUuid = GpuUuid("")
    resource_name: str = ""
    """What a VM's `deviceName` must say to get it, e.g. `nvidia.com/GA102GL_A10`."""
    desired_mode: Mode | None = None
    """None until the manager has adopted the GPU."""
    desired_plan_id: PlanId = PlanId("")
    """The plan that set `desired_mode`."""
    pool: PoolName | None = None
    iommu_group: int | None = None
    numa_node: int | None = None
    nvswitch_domain: str = ""
    """GPUs of one non-empty domain move together (HGX boards)."""
    holders: tuple[Holder, ...] = ()
    allocated_to: str = ""
    """UID of the pod that the kubelet gave it to as a passthrough device; empty when free."""
    advertised: bool = False
    """The kubelet lists it among its allocatable passthrough devices."""
    plan_id: PlanId = PlanId("")
    """The last plan that the agent carried out on it."""
    reason: str = ""
    """Reason code of the agent where the phase is not Ready."""
    message: str = ""
    mode_since: float = 0.0
    """Unix seconds of the last completed change of mode."""
    rebind: Verdict = REBINDABLE
    """Whether its agent would move it to the other mode now, its users apart: hardware, settings of the card, and whether
    enough is known to say who uses it. An operator's directive that keeps it where it is says no as well."""
    closed: Verdict | None = None
    """Why nobody new gets it: an operator withdraws it (`directives.closes`), or its kubelet does not offer it (`offers`).
    Whoever uses it keeps it."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A move of GPUs of one node in one direction, as recorded in `GPUNode.spec.transition`."""

    node: NodeName
    plan_id: PlanId
    epoch: LeaseEpoch
    to_mode: Mode
    devices: tuple[PciAddress, ...]
    step: Step
    started_at: float
    step_started_at: float
    reason: str = ""
    message: str = ""
    rollback: bool = False
    """True once the move is being undone; `to_mode` then already is the mode to return to."""


@dataclass(frozen=True, slots=True)
class Node:
    name: NodeName
    gpus: tuple[Gpu, ...]
    ready: bool = True
    """The kubelet reports Ready, and the agent is heard and says that its report is complete."""
    agent: AgentSign = HEARD
    """Whether the agent is heard."""
    silence_noted: bool = False
    """Its GPUNode says that the agent is silent, and since when."""
    cordoned: bool = False
    """Unschedulable, whoever said so; `cordoned_by_us` tells who."""
    cordoned_by_us: bool = False
    """The cordon was set by a move and has to be lifted by it."""
    transition: Transition | None = None
    sharing: SharingState | None = None
    """None where no sharing layer is installed for this node."""
    revision: str = ""
    """resourceVersion of the GPUNode, for compare-and-swap writes of its spec."""
    labels: tuple[tuple[str, str], ...] = ()
    cpu_milli: int = 0
    memory_mib: int = 0
    cpu_milli_free: int = 0
    memory_mib_free: int = 0
    amounts_free: tuple[tuple[str, int], ...] = ()
    """Of other resources by name, what pods have left of what the node offers; `pods` among them."""
    offered: tuple[tuple[str, int], ...] | None = None
    """Of each resource by which VMs ask for its GPUs, how many its kubelet offers or pods have, whichever is more; None where
    nobody says."""
    ports_taken: tuple[HostPort, ...] = ()
    taints: tuple[Taint, ...] = ()
    withheld_labels: tuple[tuple[str, str], ...] = ()
    """Labels that a move of ours took off it; they are back once one of its GPUs is shared again."""
    best_effort_only: bool = False
    """New containers on it have to be best-effort ones: what a VM may soon want back is lent to those who can be asked
    to leave."""
    reported: bool = True
    """False until the agent has echoed the current spec generation; nothing is planned for such a node."""
    complaint: str = ""
    """What of its spec this release does not understand: the node is left as it is, and `reported` is False."""
    backoffs: tuple[Backoff, ...] = ()
    """Its GPUs, and the node itself, that rest since moves failed."""
    disturbances: tuple[Disturbance, ...] = ()
    """What moves cost its pods lately, oldest first."""
    retry: str = ""
    """What an operator wants tried again at once: `all`, or PCI addresses with commas between them."""
    directives: Directives = NO_DIRECTIVES
    """What an operator wants of its GPUs, whatever demand says."""
    neighbours: Neighbours = NOBODY
    """Who else keeps its driver, and what may be paused there."""

    def gpu(self, pci_address: PciAddress) -> Gpu | None:
        return next((g for g in self.gpus if g.pci_address == pci_address), None)

    @property
    def lasting_taints(self) -> tuple[Taint, ...]:
        """Without that of our own cordon, which ends with the move."""
        if not self.cordoned_by_us:
            return self.taints
        return tuple(taint for taint in self.taints if taint.key != UNSCHEDULABLE_TAINT)

    @property
    def free_resources(self) -> FreeResources:
        """What is left for workloads beside GPUs."""
        return FreeResources(
            self.cpu_milli_free, self.memory_mib_free, dict(self.amounts_free), self.ports_taken
        )


class RebalanceMode(StrEnum):
    AUTOMATIC = "Automatic"
    RECOMMEND = "Recommend"
    OFF = "Off"


class Granularity(StrEnum):
    GPU = "GPU"
    NODE = "Node"


class EvictionRule(StrEnum):
    NEVER = "Never"
    BEST_EFFORT = "BestEffort"
    """Pods of the BestEffort side of the shared pool may be evicted for a waiting VM, through the Eviction
    API and so within their disruption budgets."""


class IdleVmAction(StrEnum):
    IGNORE = "Ignore"
    NOTIFY = "Notify"
    STOP = "Stop"
    """Stop through KubeVirt's API after notice: the owner's choice in the policy, never the planner's."""


@dataclass(frozen=True, slots=True)
class SideLimits:
    """Bounds of one side of a pool, in GPUs."""

    min: int = 0
    max: int | None = None
    headroom: int = 0
    """Idle GPUs kept ready on this side beyond current demand."""


@dataclass(frozen=True, slots=True)
class IdleVmPolicy:
    action: IdleVmAction = IdleVmAction.IGNORE
    idle_after_seconds: int = 3600
    notice_seconds: int = 900


EVEN_WEIGHT = 1.0
"""Of namespaces without an entry."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one namespace may hold of a pool, both modes counted together."""

    namespace: str
    max_gpus: float | None = None
    weight: float = EVEN_WEIGHT


class OverQuota(StrEnum):
    """What becomes of a workload that would take its namespace over its quota."""

    WAIT = "Wait"
    """It is admitted once the namespace holds less."""
    REFUSE = "Refuse"
    """Its creation is refused."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A GPUPool's spec. A GPU belongs to exactly one pool; see `membership`."""

    name: PoolName
    models: tuple[str, ...] = ()
    """Product names, compared without case; empty matches every model."""
    node_labels: tuple[tuple[str, str], ...] = ()
    """Labels a node must have; empty matches every node."""
    passthrough: SideLimits = field(default_factory=SideLimits)
    shared: SideLimits = field(default_factory=SideLimits)
    rebalance: RebalanceMode = RebalanceMode.AUTOMATIC
    granularity: Granularity = Granularity.GPU
    cooldown_seconds: int = 300
    """A GPU stays at least so long in a mode before it may leave it idle."""
    max_in_flight: int = 1
    """GPUs of this pool that may be moving at once."""
    eviction: EvictionRule = EvictionRule.NEVER
    drain_timeout_seconds: int = 600
    idle_vm: IdleVmPolicy = field(default_factory=IdleVmPolicy)
    quotas: tuple[Quota, ...] = ()
    over_quota: OverQuota = OverQuota.WAIT
    complaint: str = ""
    """What of its spec is not understood; rebalancing is Off then, whatever it says."""
    generation: int = 0
    created_at: float = 0.0

    @property
    def off_text(self) -> str:
        """That rebalancing is Off, and why where its owner did not say so."""
        return f"rebalancing of pool {self.name} is Off{f': {self.complaint}' if self.complaint else ''}"

    @property
    def recommend_only(self) -> bool:
        """Moves of its GPUs are shown and not made, unless an operator asks for them."""
        return self.rebalance is RebalanceMode.RECOMMEND

    @property
    def weighted(self) -> bool:
        """Some namespaces are to have more of it than others, so that it matters who is next."""
        return any(quota.weight != EVEN_WEIGHT for quota in self.quotas)

    def quota(self, namespace: str) -> Quota:
        """What the namespace may hold; without a limit where the pool does not name it."""
        return next((q for q in self.quotas if q.namespace == namespace), Quota(namespace))

    def side(self, mode: Mode) -> SideLimits:
        return self.passthrough if mode is Mode.PASSTHROUGH else self.shared

    def takes(self, model: str, labels: dict[str, str]) -> bool:
        """True when a GPU of `model` on a node with `labels` is in reach of this pool's selectors."""
        wanted = {m.casefold() for m in self.models}
        return (not wanted or model.casefold() in wanted) and all(
            labels.get(key) == value for key, value in self.node_labels
        )
