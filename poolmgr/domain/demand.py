"""The demand side: virtual machines that want whole GPUs and pods that want slices."""

from collections.abc import Sequence
from dataclasses import dataclass

from poolmgr.domain.identifiers import GpuUuid, NodeName, WorkloadUid
from poolmgr.domain.placement import ANYWHERE, Needs, Placement
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

SERVABLE = Verdict(True, Reason.ADMITTED)


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """`count` whole GPUs of one extended resource."""

    resource_name: str
    count: int


@dataclass(frozen=True, slots=True)
class Vm:
    """A VirtualMachineInstance that asks for passthrough GPUs."""

    uid: WorkloadUid
    namespace: str
    name: str
    claims: tuple[DeviceClaim, ...]
    node: NodeName | None = None
    """Where its launcher pod is bound; None while it waits."""
    created_at: float = 0.0
    waiting_since: float | None = None
    """When the launcher was first seen unschedulable or the VMI created; None once bound."""
    launcher_uid: str = ""
    """UID of the launcher pod: what kubelet and agent know the VM by."""
    devices: tuple[tuple[NodeName, str], ...] = ()
    """(node, PCI address) the kubelet gave it, as the agent reported."""
    idle_since: float | None = None
    cpu_milli: int = 0
    memory_mib: int = 0
    placement: Placement = ANYWHERE
    """Where it may run, GPUs apart."""
    priority: int = 0
    """Of its launcher: who has a higher one is served first."""
    servable: Verdict = SERVABLE
    """Whether GPUs would let it run, and what stands in the way if not. For one that waits."""
    provisional: bool = False
    """Where it may run is known once its launcher is there: till then GPUs are kept for it and none moves."""
    scheduler_message: str = ""
    """What the scheduler said last of why it is not bound."""

    @property
    def waiting(self) -> bool:
        return self.node is None

    @property
    def needs(self) -> Needs:
        """What it takes of a node beside GPUs."""
        return Needs(self.cpu_milli, self.memory_mib, self.placement.requests, self.placement.ports)

    @property
    def gpus(self) -> int:
        return sum(claim.count for claim in self.claims)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of one GPU assigned to a pod by the sharing layer."""

    uuid: GpuUuid
    memory_mib: int
    cores_percent: int
    slots: int = 1
    """Of the GPU's split count that it takes: one for each container on it."""


@dataclass(frozen=True, slots=True)
class CardAsk:
    """What one container asks of the sharing layer: a part of each of `cards` distinct GPUs."""

    cards: int = 1
    memory_mib: int = 0
    """Per GPU; 0 means the whole card."""
    memory_percent: int = 0
    """Per GPU, where asked as a percentage instead."""
    cores_percent: int = 0
    """Per GPU; 0 means no reservation of compute."""
    init: bool = False
    """It ends before the others start, so they may have what it had."""

    def memory_on(self, card_mib: int) -> int:
        """MiB that it takes of a card of `card_mib`."""
        if self.memory_percent:
            return card_mib * self.memory_percent // 100
        return self.memory_mib or card_mib

    def covers(self, other: "CardAsk") -> bool:
        """True when cards that can serve this one can serve the other."""
        if (self.memory_mib == 0) == (other.memory_mib == 0) and self.memory_percent == other.memory_percent:
            memory = self.memory_mib >= other.memory_mib
        else:
            memory = not self.memory_mib and not self.memory_percent
        return memory and self.cards >= other.cards and self.cores_percent >= other.cores_percent


def accepts_model(model: str, accepted: Sequence[str], excluded: Sequence[str]) -> bool:
    """True when a pod that names parts of product names (none: any) may be placed on a GPU of `model`.

    HAMi compares without case, with the name that its plugin registers: that of NVML, with `NVIDIA-` before it where it
    does not begin with NVIDIA, as Tesla's do not.
    """
    if not accepted and not excluded:
        return True
    name = (model if model.startswith("NVIDIA") else f"NVIDIA-{model}").casefold()
    return (not accepted or any(part.casefold() in name for part in accepted)) and not any(
        part.casefold() in name for part in excluded
    )


@dataclass(frozen=True, slots=True)
class SharedPod:
    """A pod that asks for slices of shared GPUs."""

    uid: WorkloadUid
    namespace: str
    name: str
    gpus: int = 1
    """Distinct GPUs it wants a slice of."""
    memory_mib: int = 0
    """Per GPU; 0 means the sharing layer's default, by default the whole card."""
    memory_percent: int = 0
    """Per GPU, where asked as a percentage instead."""
    cores_percent: int = 0
    """Per GPU; 0 means no reservation of compute."""
    containers: tuple[CardAsk, ...] = ()
    """Where more than one asks: each by itself. What is said above then is their sum, spread over `gpus`."""
    node: NodeName | None = None
    slices: tuple[Slice, ...] = ()
    created_at: float = 0.0
    started_at: float | None = None
    waiting_since: float | None = None
    models: tuple[str, ...] = ()
    """Parts of acceptable product names; see `accepts_model`."""
    excluded_models: tuple[str, ...] = ()
    allowed_uuids: tuple[GpuUuid, ...] = ()
    excluded_uuids: tuple[GpuUuid, ...] = ()
    best_effort: bool = False
    """True where its owner marked it as one that may be evicted and start again."""
    evictable: bool = False
    """True where its disruption budget would admit an eviction now."""
    priority: int = 0
    terminating: bool = False
    cpu_milli: int = 0
    memory_request_mib: int = 0
    placement: Placement = ANYWHERE
    """Where it may run, GPUs apart."""
    servable: Verdict = SERVABLE
    """Whether shared GPUs would let it run, and what stands in the way if not. For one that waits."""

    @property
    def waiting(self) -> bool:
        return self.node is None

    @property
    def needs(self) -> Needs:
        """What it takes of a node beside GPUs."""
        return Needs(self.cpu_milli, self.memory_request_mib, self.placement.requests, self.placement.ports)

    def accepts(self, model: str, uuid: GpuUuid) -> bool:
        """True when the pod's own constraints admit a GPU of `model` named `uuid`."""
        return (
            accepts_model(model, self.models, self.excluded_models)
            and (not self.allowed_uuids or uuid in self.allowed_uuids)
            and uuid not in self.excluded_uuids
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """A GPUReservation: `gpus` of `model` in `mode` for a window of time."""

    namespace: str
    name: str
    model: str
    gpus: int
    mode: str
    starts_at: float
    ends_at: float
