"""What is really there in the simulated cluster, apart from what anybody has reported about it.

Everything here is plain mutable state. Behaviour lives beside it: `agent` (node side), `hami` (sharing
layer), `kube` (scheduler and life cycles); `fleet` puts them together and shows it to the controller.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from poolmgr.domain.backoff import Backoff, Disturbance
from poolmgr.domain.demand import Slice
from poolmgr.domain.directives import NO_DIRECTIVES, Directives
from poolmgr.domain.fleet import Gpu, Transition
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import ANYWHERE, Placement, Taint
from poolmgr.domain.sharing import RegisteredGpu

VFIO = "vfio-pci"
NVIDIA = "nvidia"


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things take, in seconds. Sources: the emulated node's runs and HAMi 2.10's own periods."""

    flip: float = 20.0
    """Unbind, bind and verify on the node."""
    agent_reaction: float = 1.0
    """From a change of the spec or of the node to the agent's report."""
    kubelet: float = 2.0
    """From a change in a device plugin to the kubelet's allocatable."""
    plugin_start: float = 5.0
    """HAMi's plugin pod: label set to registered."""
    plugin_stop: float = 3.0
    hami_tick: float = 15.0
    """HAMi's scheduler refreshes nodes every 15 s; only then does a device cordon take effect."""
    hami_bind: float = 2.0
    """Between HAMi's bind and the plugin's answer; the node is locked meanwhile."""
    hami_binds_per_second: float = 5.0
    """HAMi's client QPS default."""
    vm_bind: float = 2.0
    """From a launcher being schedulable to being bound."""
    termination: float = 5.0
    """From the end of a workload to its GPU being free."""
    reboot: float = 120.0
    operator_reaction: float = 1.0
    """From a change of a node's labels to what the GPU operator and its DaemonSets make of it."""
    operand_start: float = 10.0
    """Of an operand's pod, its init container that waits for the driver included."""
    operand_stop: float = 4.0
    driver_restart: float = 180.0
    """The driver's pod: its first step, a build or not, and the load of the modules."""


@dataclass(slots=True)
class SimGpu:
    node: NodeName
    pci_address: PciAddress
    uuid: GpuUuid
    model: str
    memory_mib: int
    resource_name: str
    driver: str | None = NVIDIA
    iommu_group: int | None = None
    numa_node: int | None = None
    nvswitch_domain: str = ""
    flipping: bool = False
    quarantined: str = ""
    """Why the agent gave up on it; empty when it did not."""
    advertised: bool = False
    allocated_to: str = ""
    """UID of the launcher pod that holds it."""
    plan_id: PlanId = PlanId("")
    reason: str = ""
    message: str = ""
    mode_since: float = 0.0

    @property
    def mode(self) -> Mode | None:
        return {VFIO: Mode.PASSTHROUGH, NVIDIA: Mode.SHARED}.get(self.driver or "")


@dataclass(slots=True)
class SimSharing:
    """HAMi on one node."""

    version: tuple[int, int] = (2, 10)
    wanted: bool = True
    pods: int = 1
    ready: bool = True
    allocatable: int = 0
    registered: tuple[RegisteredGpu, ...] = ()
    handshake: str = ""
    asked_for: str = ""
    asked_at: float = 0.0
    opened_at: float = 0.0
    fence: frozenset[GpuUuid] = frozenset()
    """What the node's annotation says."""
    fence_seen: frozenset[GpuUuid] = frozenset()
    """What HAMi's scheduler acts on: the annotation as of when it last took the node in."""
    known: tuple[RegisteredGpu, ...] = ()
    """GPUs that HAMi's scheduler believes in."""
    known_slices: int = 0
    known_registration: tuple[RegisteredGpu, ...] = ()
    allocating: str = ""
    """UID of the pod between bind and Allocate; the node's lock is its."""
    last_placement_at: float = 0.0


@dataclass(slots=True)
class SimOperand:
    """The pod of an operand of the GPU operator."""

    uid: str
    holds: bool
    """It has every GPU open that is on its driver."""
    ending: bool = False


@dataclass(frozen=True, slots=True)
class SpecRead:
    """What the agent read of its GPUNode's spec last."""

    desired: dict[PciAddress, tuple[Mode, PlanId]] = field(default_factory=dict)
    transition: Transition | None = None


@dataclass(slots=True)
class SimNode:
    name: NodeName
    gpus: list[SimGpu]
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    cpu_milli: int = 128_000
    memory_mib: int = 1_048_576
    sharing: SimSharing = field(default_factory=SimSharing)
    agent_alive: bool = True
    agent_busy: bool = False
    """A sync of the agent is due."""
    cut_off: bool = False
    """The agent cannot reach the API server: it goes by what it read last."""
    frozen: bool = False
    """The agent stands still wherever it was."""
    read: SpecRead = field(default_factory=SpecRead)
    unfinished: list[Callable[[], None]] = field(default_factory=list)
    """What a frozen agent was about to do with a GPU that it has unbound."""
    up: bool = True
    unschedulable: bool = False
    cordoned_by_us: bool = False
    desired: dict[PciAddress, tuple[Mode, PlanId]] = field(default_factory=dict)
    transition: Transition | None = None
    backoffs: tuple[Backoff, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()
    retry: str = ""
    """An operator's annotation."""
    directives: Directives = NO_DIRECTIVES
    generation: int = 1
    revision: int = 1
    observed_generation: int = 0
    highest_epoch: LeaseEpoch = LeaseEpoch(0)
    """In the agent's journal: survives its restarts and reboots."""
    reported: tuple[Gpu, ...] = ()
    beat: int = 1
    """What the agent's heartbeat says."""
    silence_noted: bool = False
    boots: int = 1
    operands: dict[str, SimOperand] = field(default_factory=dict)
    """By name."""
    operand_starts: int = 0
    driver_restarts: bool = False
    upgrades_held_by_us: bool = False

    @property
    def speaks(self) -> bool:
        """Its agent reads its spec, reports and is heard."""
        return self.agent_alive and self.up and not self.cut_off and not self.frozen

    def gpu(self, pci_address: PciAddress) -> SimGpu:
        return next(g for g in self.gpus if g.pci_address == pci_address)


@dataclass(frozen=True, slots=True)
class VmRequest:
    """A person who starts a virtual desktop."""

    name: str
    at: float
    duration_seconds: float
    """From the moment it runs."""
    resource_name: str
    gpus: int = 1
    namespace: str = "desktops"
    patience_seconds: float | None = None
    """The person gives up after waiting so long; None waits for ever."""
    idle_after_seconds: float | None = None
    """Forgotten: the session does nothing from this point of its run on."""
    cpu_milli: int = 8_000
    memory_mib: int = 32_768
    placement: Placement = ANYWHERE
    gated: bool = False
    """Our webhook puts the gate on its launcher."""


@dataclass(frozen=True, slots=True)
class PodRequest:
    """A container that wants slices."""

    name: str
    at: float
    duration_seconds: float
    memory_mib: int
    cores_percent: int
    gpus: int = 1
    namespace: str = "notebooks"
    best_effort: bool = False
    evictable: bool = False
    models: tuple[str, ...] = ()
    cpu_milli: int = 4_000
    memory_request_mib: int = 16_384
    placement: Placement = ANYWHERE
    gated: bool = False
    """Our webhook puts the gate on it."""


@dataclass(slots=True)
class SimVm:
    uid: str
    request: VmRequest
    created_at: float
    launcher_uid: str
    node: NodeName | None = None
    devices: tuple[PciAddress, ...] = ()
    started_at: float | None = None
    ended: bool = False
    gated: bool = False


@dataclass(slots=True)
class SimPod:
    uid: str
    request: PodRequest
    created_at: float
    node: NodeName | None = None
    slices: tuple[Slice, ...] = ()
    started_at: float | None = None
    terminating: bool = False
    run: int = 1
    """Counts its starts: an evicted best-effort pod comes back as a new pod."""
    ended: bool = False
    gated: bool = False
    excluded: frozenset[GpuUuid] = frozenset()
    """GPUs that our webhook has excluded for it."""


@dataclass(slots=True)
class World:
    """All state of one simulated cluster."""

    timings: Timings
    nodes: dict[NodeName, SimNode]
    vms: dict[str, SimVm] = field(default_factory=dict)
    """By UID; only those that wait or run."""
    pods: dict[str, SimPod] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """Sentences about promises broken: a held GPU unbound, a GPU offered twice. Empty in a sound run."""
    split_count: int = 10
    """HAMi's deviceSplitCount."""
    changed_on: Callable[[NodeName], None] = field(default=lambda _: None)
    """To be called when who holds a node's GPUs has changed: its agent looks."""

    def pods_on(self, node: NodeName) -> list[SimPod]:
        return [p for p in self.pods.values() if p.node == node]

    def slices_on(self, uuid: GpuUuid) -> list[tuple[SimPod, Slice]]:
        return [(p, s) for p in self.pods.values() for s in p.slices if s.uuid == uuid]

    def free_compute(self, node: SimNode) -> tuple[int, int]:
        """(CPU milli, memory MiB) not requested by anything on the node."""
        cpu, memory = node.cpu_milli, node.memory_mib
        for pod in self.pods_on(node.name):
            cpu, memory = cpu - pod.request.cpu_milli, memory - pod.request.memory_request_mib
        for vm in self.vms.values():
            if vm.node == node.name:
                cpu, memory = cpu - vm.request.cpu_milli, memory - vm.request.memory_mib
        return cpu, memory
