"""What the controller needs of its surroundings, as protocols. `poolmgr.cluster`, `.store` and `.sim` provide them.

Every write is an `ensure`: repeating it is harmless. Implementations translate foreign errors into
`poolmgr.domain.errors`; they raise `Stale` for a lost compare-and-swap and `Unavailable` for a service that
does not answer, and never half-apply.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from poolmgr.domain.census import Census
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId, WorkloadUid
from poolmgr.domain.modes import Mode
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Plan, Subject, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.kit.clock import Clock

__all__ = [
    "Clock",
    "ClusterView",
    "Evictor",
    "FleetActuator",
    "Leadership",
    "Ledger",
    "PoolReporter",
    "PoolStatus",
    "Recorder",
    "SharingActuator",
    "StepRecord",
]


class ClusterView(Protocol):
    async def snapshot(self) -> ClusterSnapshot:
        """The cluster as known now, without waiting; `synced` is False until it can be trusted."""
        ...

    async def wait_for_change(self, timeout_seconds: float, *, settle_seconds: float = 0.0) -> None:
        """Return when something that matters changed, or after the timeout.

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

    async def ensure_silence_noted(self, node: NodeName, since: float | None) -> None:
        """Have the GPUNode say when its agent was last heard (Unix seconds; 0: never), or with None nothing of it."""
        ...


class SharingActuator(Protocol):
    """HAMi's levers on one node."""

    async def ensure_gpus_fenced(self, node: NodeName, uuids: frozenset[GpuUuid]) -> None:
        """Close exactly these GPUs of the node to new pods (empty: open all)."""
        ...

    async def ensure_cordoned(self, node: NodeName, cordoned: bool) -> None:
        """Cordon the node in our name, or lift a cordon that is ours; never lift someone else's."""
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


class Evictor(Protocol):
    async def evict(self, pod: WorkloadUid, namespace: str, name: str) -> Verdict:
        """Ask the Eviction API; a budget that says no is a Verdict with EVICTION_DENIED."""
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


class PoolReporter(Protocol):
    async def report(self, pool: Pool, status: PoolStatus) -> None:
        """Write `GPUPool.status` if it differs from what is there."""
        ...
