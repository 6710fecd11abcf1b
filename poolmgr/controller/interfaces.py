"""What the controller needs of its surroundings, as protocols. `poolmgr.cluster`, `.store` and `.sim` provide them.

Every write is an `ensure`: repeating it is harmless. Implementations translate foreign errors into
`poolmgr.domain.errors`; they raise `Stale` for a lost compare-and-swap and `Unavailable` for a service that
does not answer, and never half-apply.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from poolmgr.controller.beside import Beside, in_the_loop
from poolmgr.domain.census import Census
from poolmgr.domain.directives import Directives
from poolmgr.domain.fleet import Pool
from poolmgr.domain.history import RestCall
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId, WorkloadUid
from poolmgr.domain.modes import Mode
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Plan, QuotaUse, ReservationState, Subject, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.kit.clock import Clock

__all__ = [
    "Admitter",
    "Clock",
    "ClusterView",
    "Dependencies",
    "Evictor",
    "FleetActuator",
    "Leadership",
    "Ledger",
    "PoolReporter",
    "PoolStatus",
    "Recorder",
    "ServiceActuator",
    "ReservationReporter",
    "SharingActuator",
    "StepRecord",
]


class ClusterView(Protocol):
    async def snapshot(self) -> ClusterSnapshot:
        """The cluster as known now, without waiting; `synced` is False until it can be trusted. What this manager has
        written to a GPUNode is in it as soon as the write is answered."""
        ...

    def ages(self) -> Mapping[str, float]:
        """Seconds since each kind that is watched was last confirmed; empty where nothing is watched."""
        ...

    async def wait_for_change(self, timeout_seconds: float, *, settle_seconds: float = 0.0) -> None:
        """Return when something that matters has changed since the last call returned, or after the timeout.

        Changes that nobody waits for may be gathered until `settle_seconds` from now. A VM that begins to wait, and
        what happens on a node where GPUs move, end it at once.
        """
        ...


class FleetActuator(Protocol):
    async def write_intent(self, node: NodeName, intent: NodeIntent, revision: str) -> str:
        """Replace `GPUNode.spec` if its resourceVersion still is `revision`; return the new one.

        Raises Stale when it is not, Unavailable when the API server does not answer.
        """
        ...

    async def write_directives(self, node: NodeName, directives: Directives, revision: str) -> None:
        """Have the GPUNode's annotations say exactly these, if its resourceVersion still is `revision`.

        Raises Stale when it is not, Unavailable when the API server does not answer.
        """
        ...

    async def ensure_silence_noted(self, node: NodeName, since: float | None) -> None:
        """Have the GPUNode say when its agent was last heard (Unix seconds; 0: never), or with None nothing of it."""
        ...


class SharingActuator(Protocol):
    """HAMi's levers on one node."""

    async def ensure_gpus_fenced(self, node: NodeName, uuids: frozenset[GpuUuid]) -> None:
        """Close exactly these GPUs of the node to new pods (empty: open all)."""
        ...

    async def ensure_cordoned(self, node: NodeName, cordoned: bool) -> None:
        """Cordon the node in our name, or open it: lift a cordon that is ours, never someone else's, and have pods
        tried again that HAMi turned away."""
        ...

    async def ensure_plugin(self, node: NodeName, wanted: bool) -> None:
        """Set or remove the label that HAMi's plugin DaemonSet selects."""
        ...

    async def ensure_unregistered(self, node: NodeName) -> None:
        """Remove HAMi's registration annotations of the node."""
        ...

    async def ensure_scheduler_asked(self, node: NodeName, plan: PlanId, now: float) -> None:
        """Have HAMi's scheduler look at the node again, once for each plan; `now` (Unix seconds) is remembered."""
        ...

    async def ensure_best_effort_only(self, node: NodeName, on: bool) -> None:
        """Set or remove the label that keeps new containers off the node unless they are best-effort ones."""
        ...


class ServiceActuator(Protocol):
    """The levers of who keeps a node's driver, by its own interfaces."""

    async def ensure_paused(self, node: NodeName, labels: frozenset[str]) -> None:
        """Have the services that these labels start leave the node, where they run; never one that somebody else has
        paused or switched off."""
        ...

    async def ensure_resumed(self, node: NodeName, labels: frozenset[str]) -> None:
        """Let those of them run again that we paused."""
        ...

    async def ensure_upgrades_held(self, node: NodeName, held: bool) -> None:
        """Have the driver of the node upgraded later, or not held back by us any more; never against somebody else's
        word."""
        ...


class Evictor(Protocol):
    async def evict(self, pod: WorkloadUid, namespace: str, name: str) -> Verdict:
        """Ask the Eviction API; a budget that says no is a Verdict with EVICTION_DENIED."""
        ...


class Admitter(Protocol):
    async def ensure_admitted(self, pod: WorkloadUid, namespace: str, name: str) -> None:
        """Take our scheduling gate off a pod that no other gate holds back."""
        ...


class Recorder(Protocol):
    """Kubernetes Events."""

    async def event(self, subject: Subject, reason: Reason, message: str, *, warning: bool = False) -> None:
        """Publish; equal events are merged. Never raises: an Event that cannot be written is logged."""
        ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of a move's history."""

    plan_id: PlanId
    node: NodeName
    devices: tuple[PciAddress, ...]
    to_mode: Mode
    step: str
    reason: Reason
    message: str
    at: float
    epoch: LeaseEpoch


class Ledger(Protocol):
    """History in SQL. Losing it loses history, never control: callers go on when it raises Unavailable."""

    async def record_plan(self, plan: Plan, *, pool: str, dry_run: bool, outcome: str) -> None: ...

    async def record_step(self, record: StepRecord) -> None: ...

    async def record_call(self, call: RestCall) -> None:
        """Something that somebody wanted, through the API or by an annotation."""
        ...

    async def record_sample(self, census: Census) -> None:
        """Demand and use per pool and model, for the forecast and the chart."""
        ...

    async def load_learned_state(self, planner: str) -> Any:
        """What `save_learned_state` kept last, or None. Raises Rejected where it is damaged: it is then begun anew."""
        ...

    async def save_learned_state(self, planner: str, learned: Any) -> None: ...


class Leadership(Protocol):
    @property
    def epoch(self) -> LeaseEpoch | None:
        """The lease's epoch while it is surely held, else None. Checked before every write."""
        ...

    @property
    def not_leading_message(self) -> str:
        """A sentence for an operator who asks why this manager moves nothing while `epoch` is None."""
        ...


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """What `GPUPool.status` says."""

    observed_generation: int
    gpus: int
    passthrough: int
    passthrough_used: int
    shared: int
    shared_used: int
    moving: int
    trouble: int
    waiting_vms: int
    waiting_pods: int
    reason: Reason
    message: str
    quotas: tuple[QuotaUse, ...] = ()
    resource_names: tuple[str, ...] = ()
    """What machines ask for to get one of its GPUs."""


class ReservationReporter(Protocol):
    async def report(self, state: ReservationState) -> None:
        """Write `GPUReservation.status` if it differs from what is there."""
        ...


class PoolReporter(Protocol):
    async def report(self, pool: Pool, status: PoolStatus) -> None:
        """Write `GPUPool.status` if it differs from what is there."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside that the controller calls, composed once by the process that runs it."""

    clock: Clock
    view: ClusterView
    fleet: FleetActuator
    sharing: SharingActuator
    services: ServiceActuator
    evictor: Evictor
    admitter: Admitter
    recorder: Recorder
    ledger: Ledger
    leadership: Leadership
    reporter: PoolReporter
    reservations: ReservationReporter
    beside: Beside = in_the_loop
    """Where plans are made."""
