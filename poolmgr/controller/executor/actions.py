"""What the executor may do next. A recipe answers with exactly one of these."""

from dataclasses import dataclass

from poolmgr.domain.identifiers import GpuUuid, PciAddress, PlanId, WorkloadUid
from poolmgr.domain.modes import Step
from poolmgr.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class FenceGpus:
    """Close exactly these GPUs of the node to new pods."""

    uuids: frozenset[GpuUuid]


@dataclass(frozen=True, slots=True)
class Cordon:
    on: bool


@dataclass(frozen=True, slots=True)
class Plugin:
    """Have HAMi's plugin run on the node, or not."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Unregister:
    """Remove HAMi's registration of the node."""


@dataclass(frozen=True, slots=True)
class AskScheduler:
    """Have HAMi's scheduler look at the node again, for this plan; `at` in Unix seconds."""

    plan: PlanId
    at: float


@dataclass(frozen=True, slots=True)
class Evict:
    pod: WorkloadUid
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class PauseServices:
    """Have the services that these labels of the node start leave it."""

    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class ResumeServices:
    """Let those of them run again that we paused."""

    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class HoldUpgrades:
    """Have the node's driver upgraded later, or not held back by us any more."""

    on: bool


Effect = (
    FenceGpus
    | Cordon
    | Plugin
    | Unregister
    | AskScheduler
    | Evict
    | PauseServices
    | ResumeServices
    | HoldUpgrades
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until the world changes."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Perform:
    """Bring about these effects, then look again. Each is an `ensure`."""

    effects: tuple[Effect, ...]
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Advance:
    """The current step is complete."""

    to: Step
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """Undo the move: every device of the transition goes back to the mode that it came from."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Shrink:
    """Go on with these devices alone; the others stay where they are and are opened again. With STEP_TIMED_OUT they have
    failed."""

    devices: tuple[PciAddress, ...]
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Park:
    """Give HAMi and the node back while it is not known where the devices are: the move waits at Attach until the agent has
    said. The node rests as after a failure."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All is done: remove the transition."""

    reason: Reason
    message: str


Action = Wait | Perform | Advance | Rollback | Shrink | Park | Finish
