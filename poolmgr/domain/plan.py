"""What a planner answers: moves to make, and for everything it leaves alone, why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from poolmgr.domain.estimates import Estimate
from poolmgr.domain.identifiers import (
    Generation,
    GpuUuid,
    NodeName,
    PciAddress,
    PlanId,
    PoolName,
    WorkloadUid,
)
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Move:
    """Bring one GPU into `to_mode`."""

    node: NodeName
    pci_address: PciAddress
    uuid: GpuUuid
    pool: PoolName
    model: str
    to_mode: Mode
    reason: Reason
    message: str
    """One sentence for a human: what moves, for whom, why this GPU."""
    evict: tuple[WorkloadUid, ...] = ()
    """Pods to evict first; only ones that the pool's eviction rule names."""
    wait_for: tuple[WorkloadUid, ...] = ()
    """Pods that may end in their own time first: the GPU is closed to new ones and moves once it is empty."""
    recommended: bool = False
    """Its pool is in Recommend mode: the planner shows the move and nobody starts it."""


class SubjectKind(StrEnum):
    RESERVATION = "GPUReservation"
    GPU = "GPU"
    VM = "VirtualMachineInstance"
    POD = "Pod"
    POOL = "GPUPool"
    NODE = "Node"


class Subject(NamedTuple):
    """What a refusal is about. For a GPU: namespace is the node, name the PCI address."""

    kind: SubjectKind
    namespace: str
    name: str


class Refusal(NamedTuple):
    """Something that was considered and not done. A tuple, as one is made for each of tens of thousands of GPUs."""

    subject: Subject
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Target:
    """The size a planner wants for one pool and model."""

    pool: PoolName
    model: str
    passthrough: int
    shared: int
    reason: Reason
    message: str


class Admission(NamedTuple):
    """A workload that waits behind our gate and may go on."""

    subject: Subject
    pod: WorkloadUid
    """Whose gate is to be lifted: the pod's own, of a VM its launcher's."""
    pod_name: str
    message: str


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One entry of a pool's quotas and what counts against it, in GPUs."""

    pool: PoolName
    namespace: str
    max_gpus: float | None
    weight: float
    used: float
    """By what runs, and by what is admitted: whatever the scheduler may place any moment."""
    waiting: float
    """Requested by workloads that are not admitted yet."""


class ReservationPhase(StrEnum):
    PENDING = "Pending"
    """Its window has not begun."""
    ACTIVE = "Active"
    EXPIRED = "Expired"
    REFUSED = "Refused"
    """It is not promised."""


@dataclass(frozen=True, slots=True)
class ReservationState:
    """Where one reservation stands."""

    namespace: str
    name: str
    generation: int
    phase: ReservationPhase
    window: tuple[float, float] | None
    """Start and end of the open or the next one, Unix seconds."""
    ready: int
    """GPUs that are free for its holders, or in use by them. 0 before its lead."""
    used: int
    """Of these, the ones in use."""
    kept: int
    """GPUs to which nobody else is admitted now."""
    cards: tuple[tuple[NodeName, GpuUuid], ...]
    """The shared cards that are kept for it."""
    ok: bool
    """The GPUs are, or will be, there."""
    reason: Reason
    message: str

    @property
    def subject(self) -> Subject:
        return Subject(SubjectKind.RESERVATION, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision on one snapshot. `plan_id` is equal for equal moves on an equal snapshot generation."""

    plan_id: PlanId
    snapshot_generation: Generation
    made_at: float
    moves: tuple[Move, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    targets: tuple[Target, ...] = ()
    best_effort_only: frozenset[NodeName] = frozenset()
    """Nodes that are to take new best-effort containers only; all others are to take any. The whole set, not a
    change to it."""
    quota_uses: tuple[QuotaUse, ...] = ()
    admissions: tuple[Admission, ...] = ()
    """In their turn."""
    reservations: tuple[ReservationState, ...] = ()
    estimates: Mapping[Subject, Estimate] = field(default_factory=dict, hash=False)
    """How long those will wait who wait for GPUs; the manager adds it to what the planner decided."""

    @property
    def empty(self) -> bool:
        return not self.moves

    @property
    def to_start(self) -> tuple[Move, ...]:
        """The moves that the manager makes by itself."""
        return tuple(move for move in self.moves if not move.recommended)


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer to "may this be done?" that keeps its reason."""

    ok: bool
    reason: Reason
    message: str = ""

    def __bool__(self) -> bool:
        return self.ok
