"""The demand side: virtual machines that want whole GPUs and pods that want slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from poolmgr.domain.identifiers import GpuUuid, NodeName, WorkloadUid
from poolmgr.domain.placement import ANYWHERE, Needs, Placement
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

SERVABLE = Verdict(True, Reason.ADMITTED)
FULL_CORES = 100
"""Percent of a card's compute."""

Labels = tuple[tuple[str, str], ...]


class Gate(StrEnum):
    """Whether a scheduling gate keeps the scheduler from a pod."""

    OPEN = "Open"
    """None does: once it fits, it is placed."""
    OURS = "Ours"
    """Ours alone: it is placed once the manager admits it."""
    OTHERS = "Others"
    """Somebody else's, whether or not ours does too."""


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
    launcher_name: str = ""
    gate: Gate = Gate.OPEN
    """Of its launcher."""
    labels: Labels = ()
    reservation: str = ""
    """The reservation that it names, `NAME` or `NAMESPACE/NAME`."""

    @property
    def waiting(self) -> bool:
        return self.node is None

    @property
    def admitted(self) -> bool:
        """It has its GPUs, or the scheduler may bind it any moment."""
        return self.node is not None or (bool(self.launcher_uid) and self.gate is Gate.OPEN)

    @property
    def needs(self) -> Needs:
        """What it takes of a node beside GPUs."""
        return Needs(self.cpu_milli, self.memory_mib, self.placement.requests, self.placement.ports)

    @property
    def gpus(self) -> int:
        claims = self.claims
        return claims[0].count if len(claims) == 1 else sum([claim.count for claim in claims])


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


def worth_of(asks: Sequence[CardAsk], card_mib: int) -> float:
    """GPUs that a pod with these containers takes up on cards of `card_mib`: of each the larger of the shares of memory and
    compute that it asks for, and of an init container nothing beside what runs after it."""
    beside = alone = 0.0
    for ask in asks:
        memory = ask.memory_on(card_mib) / card_mib if card_mib else 1.0
        worth = ask.cards * min(1.0, max(memory, ask.cores_percent / FULL_CORES))
        if ask.init:
            alone = max(alone, worth)
        else:
            beside += worth
    return max(beside, alone)


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
    card_names: str = ""
    """What the resource names of GPUs that it may be on begin with, e.g. `huawei.com/`; empty: any."""
    node: NodeName | None = None
    slices: tuple[Slice, ...] = ()
    """Empty for one that is bound: another device plugin gave it its GPUs."""
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
    gate: Gate = Gate.OPEN
    labels: Labels = ()
    reservation: str = ""
    """As of a VM."""

    @property
    def waiting(self) -> bool:
        return self.node is None

    @property
    def admitted(self) -> bool:
        """It has its slices, or the scheduler may place it any moment."""
        return self.node is not None or bool(self.slices) or self.gate is Gate.OPEN

    @property
    def asks(self) -> tuple[CardAsk, ...]:
        """Of each of its containers that asks; one that says nothing of memory asks for all of it."""
        whole = CardAsk(self.gpus, self.memory_mib, self.memory_percent, self.cores_percent)
        return self.containers or (whole,)

    def worth(self, card_mib: int) -> float:
        """GPUs that it takes up on cards of `card_mib`."""
        return worth_of(self.asks, card_mib)

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
