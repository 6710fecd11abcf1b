"""The API's JSON: camelCase like Kubernetes, instants as RFC 3339, every enum a string."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.plan import SubjectKind
from poolmgr.domain.usage import GpuState


def camel(name: str) -> str:
    """`waiting_vms` → `waitingVMs`: abbreviations keep their capitals, as in the CRDs."""
    return to_camel(name).replace("Vms", "VMs").replace("Mib", "MiB").replace("Gpus", "GPUs")


class Schema(BaseModel):
    model_config = ConfigDict(alias_generator=camel, populate_by_name=True, frozen=True)


MANY = ConfigDict(alias_generator=camel)
"""Of what there are tens of thousands in one answer: plain dataclasses, which are made in an eighth of the time. What
they hold is our own and is not checked."""


class Side(Schema):
    """One side of a pool: its bounds, and its GPUs now."""

    min: int = Field(description="Never fewer GPUs than this.")
    max: int | None = Field(description="Never more; null for no limit.")
    headroom: int = Field(description="Idle GPUs kept ready beyond demand.")
    gpus: int = Field(description="GPUs in this mode now; one that moves counts on neither side.")
    used: int = Field(description="Of these, how many have a workload.")
    target: int | None = Field(description="GPUs that the last plan wants here; null before the first plan.")


class Quota(Schema):
    """What one namespace may hold of a pool, and what it holds, in GPUs; a share of a card counts as a fraction."""

    namespace: str
    max_gpus: float | None = Field(description="Null for no limit.")
    weight: float = Field(description="Namespaces with more weight are served first when GPUs are short.")
    used: float = Field(
        description="Held by running workloads, and by admitted ones that may start any moment."
    )
    waiting: float = Field(description="Requested by workloads that are not admitted yet.")


class Window(Schema):
    start: str
    end: str


class Reservation(Schema):
    """A GPUReservation, and where it stands."""

    namespace: str
    name: str
    model: str
    gpus: int
    mode: Mode
    phase: str = Field(description="Pending, Active, Expired or Refused; empty before the first plan.")
    window: Window | None = Field(
        description="The window that is open, otherwise the next one; null once all are over."
    )
    ready: int = Field(description="GPUs that are free for its holders, or in use by them.")
    used: int = Field(description="Of these, the ones in use.")
    kept: int = Field(description="GPUs to which nobody else is admitted now.")
    reason: str
    message: str


class ReservationList(Schema):
    items: list[Reservation]


class Pool(Schema):
    """A GPUPool with its numbers."""

    name: str
    generation: int = Field(description="metadata.generation of the GPUPool; give it to :rebalance.")
    models: list[str] = Field(description="Product names; empty for all.")
    node_selector: dict[str, str]
    rebalance: str = Field(description="Automatic, Recommend or Off.")
    gpus: int
    passthrough: Side
    shared: Side
    moving: int
    trouble: int = Field(description="GPUs that need attention.")
    waiting_vms: int
    waiting_pods: int
    quotas: list[Quota] = Field(description="As of the last plan; empty before the first.")


class PoolList(Schema):
    items: list[Pool]


@dataclass(slots=True)
class Gpu:
    pci_address: str
    uuid: str
    model: str
    memory_mib: int
    pool: str | None
    mode: Annotated[Mode | None, Field(description="Observed; null while on no driver.")]
    desired_mode: Mode | None
    phase: DevicePhase
    state: Annotated[
        GpuState, Field(description="InUse, Idle, Moving, Trouble or Withdrawn; exactly one holds.")
    ]
    share: Annotated[float, Field(description="Allocated part of the card, 0 to 1.")]
    users: Annotated[list[str], Field(description="`VM ns/name` and `pod ns/name` on it.")]
    mode_since: str | None
    reason: Annotated[str, Field(description="Reason code of the agent; empty when all is well.")]
    message: str
    rebindable: Annotated[
        bool, Field(description="Whether its agent would move it to the other mode if it had no users.")
    ]
    rebind_reason: Annotated[str, Field(description="If not, the reason code; otherwise empty.")]
    rebind_message: Annotated[str, Field(description="The reason as a sentence, with what to do.")]
    closed: Annotated[
        str, Field(description="Why no new workload gets it: an operator withdrew it. Empty if it is open.")
    ]

    __pydantic_config__ = MANY


class Transition(Schema):
    """A move of GPUs of one node that is under way."""

    node: str
    plan_id: str
    devices: list[str]
    to_mode: Mode
    step: Step
    started_at: str
    step_started_at: str
    reason: str
    message: str
    rollback: bool = Field(description="It is being undone; toMode is the mode it returns to.")


class Pause(Schema):
    """A GPU, or a whole node, that rests since moves failed."""

    pci_address: str = Field(description="Empty for the node itself.")
    reason: str = Field(description="Reason code of the last failure.")
    message: str
    failures: int = Field(description="In a row.")
    failed_at: str
    until: str


class Agent(Schema):
    """A node's agent, by its heartbeat."""

    heard: bool = Field(description="Heard within the last minute; otherwise nothing moves on the node.")
    last_heard: str | None = Field(
        description="If it is silent: when it was last heard, or null if that is unknown."
    )
    message: str = Field(description="The problem as a sentence; empty while it is heard.")


class Disturbance(Schema):
    """What moves cost the pods of a node within the last hour."""

    plugin_stops: int = Field(description="Times that HAMi's plugin was taken off the node.")
    closed_seconds: float = Field(
        description="How long its GPUs were closed to new vGPU pods; a part of them counts as a part of the time."
    )
    most_plugin_stops: int = Field(description="No more moves begin there once either limit is reached.")
    most_closed_seconds: float


class Directive(Schema):
    """What an operator wants of GPUs of a node, whatever demand says."""

    directive: str = Field(description="cordon, quarantine, drain or forget.")
    target: str = Field(description="PCI address, or `all`.")
    to: Mode | None = Field(description="For a drain: the side that the GPUs go to.")
    reason: str = Field(description="The reason as given; empty if none was.")
    by: str = Field(description="Who gave it; empty if unknown.")
    since: str | None


class Node(Schema):
    name: str
    ready: bool
    cordoned: bool
    best_effort_only: bool = Field(
        description="Only best-effort containers may start on it, because VMs are expected to need its GPUs."
    )
    reported: bool = Field(description="The agent has acknowledged the latest spec.")
    agent: Agent
    transition: Transition | None
    pauses: list[Pause] = Field(description="GPUs that rest, and until when; `:retry` ends the rest.")
    disturbance: Disturbance
    directives: list[Directive] = Field(
        description="Directives of operators for its GPUs. Each lasts until the opposite verb ends it."
    )
    gpus: list[Gpu]


class NodeList(Schema):
    items: list[Node]
    next_page_token: str = Field(
        description="Pass it as pageToken to get the next page; empty on the last page."
    )


class PlannedMove(Schema):
    node: str
    pci_address: str
    uuid: str
    pool: str
    model: str
    to_mode: Mode
    reason: str = Field(description="Reason code.")
    message: str = Field(description="One sentence: what moves, for whom, why this GPU.")
    evict: list[str] = Field(description="UIDs of pods that are evicted first.")
    recommended: bool = Field(description="The pool is in Recommend mode: shown, and made only if asked for.")


@dataclass(slots=True)
class Estimate:
    """How long until a waiting workload starts, from when the plan was made."""

    known: Annotated[
        bool, Field(description="false: no estimate is possible; the sentence says what the wait depends on.")
    ]
    median_seconds: Annotated[float | None, Field(description="Half of similar workloads start by then.")]
    low_seconds: Annotated[float | None, Field(description="Nine of ten like it start between this")]
    high_seconds: Annotated[float | None, Field(description="and this.")]
    measured: Annotated[int, Field(description="Number of waits in this cluster that it is based on.")]
    position: Annotated[int, Field(description="Its place in line, from 1; 0 if it is in no line.")]
    message: str

    __pydantic_config__ = MANY


@dataclass(slots=True)
class Refusal:
    """Something that was considered and not done."""

    kind: SubjectKind
    namespace: Annotated[str, Field(description="For a GPU: its node.")]
    name: Annotated[str, Field(description="For a GPU: its PCI address.")]
    reason: str
    message: str
    estimate: Annotated[
        Estimate | None, Field(description="For a workload that waits for GPUs, in the newest plan.")
    ] = None

    __pydantic_config__ = MANY


class Target(Schema):
    pool: str
    model: str
    passthrough: int
    shared: int
    reason: str
    message: str


class Plan(Schema):
    """A decision: moves, and for everything that was left alone, why."""

    plan_id: str
    snapshot_generation: int
    made_at: str
    moves: list[PlannedMove]
    refusals: list[Refusal]
    targets: list[Target]


class RecordedPlan(Plan):
    pool: str = Field(description="The pool whose GPUs move; empty for a plan without moves.")
    dry_run: bool
    outcome: str = Field(description="started, recommended or no_move.")
    refusals_left_out: int = Field(description="Refusals beyond what the ledger keeps of one plan.")


class PlanList(Schema):
    items: list[RecordedPlan]
    next_page_token: str


class TransitionStep(Schema):
    step: str
    reason: str
    message: str
    at: str
    epoch: int = Field(description="Lease epoch of the manager that took it.")


class RecordedTransition(Schema):
    """A move as the ledger has it, with all its steps."""

    plan_id: str
    node: str
    devices: list[str]
    to_mode: str
    started_at: str
    ended_at: str | None = Field(description="Null while it runs.")
    rolled_back: bool
    steps: list[TransitionStep]


class TransitionList(Schema):
    running: list[Transition] = Field(description="Under way now, from the cluster itself.")
    items: list[RecordedTransition] = Field(description="From the ledger, newest first.")
    next_page_token: str


class Sample(Schema):
    """GPUs and demand at one instant."""

    at: str
    gpus: int
    passthrough: int
    passthrough_used: int
    shared: int
    shared_used: int
    shared_share: float = Field(description="Allocated parts of shared GPUs, summed, in GPUs.")
    moving: int
    trouble: int
    running_vms: int
    running_pods: int
    waiting_vms: int
    waiting_pods: int


class SampleList(Schema):
    items: list[Sample]


class Call(Schema):
    at: str
    caller: str
    method: str
    path: str
    status: int
    code: str = Field(description="Reason code of the answer; empty when it succeeded.")
    dry_run: bool
    request_id: str


class CallList(Schema):
    items: list[Call]
    next_page_token: str


def whole(value: Any) -> Any:
    """`3.0` is an integer in JSON Schema; Python's strict mode would refuse it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class RebalanceRequest(BaseModel):
    """What to do. `dryRun` has no default: whether GPUs move must be said."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=camel,
        json_schema_extra={"examples": [{"dryRun": True}, {"dryRun": False, "generation": 3}]},
    )

    dry_run: bool = Field(description="true: only show what would be done. false: do it.")
    generation: Annotated[int, Field(ge=0), BeforeValidator(whole)] | None = Field(
        default=None,
        description="The pool's generation as the caller saw it; when the pool has changed since, nothing is "
        "done and the answer is 412.",
    )


class RetryRequest(BaseModel):
    """Whom to try again. `dryRun` has no default: whether pauses end must be said."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=camel,
        json_schema_extra={"examples": [{"dryRun": True}, {"dryRun": False, "devices": ["0000:3b:00.0"]}]},
    )

    dry_run: bool = Field(description="true: only show whose pauses would end. false: end them.")
    devices: list[Annotated[str, Field(max_length=16)]] = Field(
        default=[],
        max_length=64,
        description="PCI addresses; the node's own pause ends with theirs. Empty: the node and all its GPUs.",
    )


class Retry(Schema):
    """Whose pauses ended, or with dryRun would end."""

    node: str
    dry_run: bool
    ended: list[Pause]


class Rebalance(Schema):
    """What a rebalance came to."""

    pool: str
    dry_run: bool
    plan: Plan
    started: list[PlannedMove] = Field(
        description="Moves that were started; with dryRun, those that would be started now."
    )
    held_back: list[Refusal] = Field(
        description="Moves of the plan that the last check before acting stopped, and why."
    )
