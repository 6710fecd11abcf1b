"""What the ledger gives back: past plans, moves and samples, as values."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from poolmgr.domain.census import Count
from poolmgr.domain.plan import Plan, Subject
from poolmgr.domain.reasons import Reason

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list, newest first."""

    items: tuple[Item, ...]
    next_token: str = ""
    """Pass it to get the following page; empty at the end."""


@dataclass(frozen=True, slots=True)
class PastPlan:
    """A plan as it was recorded: one that differed from the one before it, or that somebody asked for."""

    plan: Plan
    pool: str
    """Whose moves these are; empty for a plan that moved nothing."""
    dry_run: bool
    outcome: str
    refusals_left_out: int = 0
    """Refusals beyond what the ledger keeps of one plan."""


@dataclass(frozen=True, slots=True)
class PastDecision:
    """One sentence of a past plan: a move that was begun, or a workload that was told to wait."""

    at: float
    subject: Subject
    """The GPU of a move; the VM or pod of a refusal."""
    moved: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class PastStep:
    step: str
    reason: str
    message: str
    at: float
    epoch: int


@dataclass(frozen=True, slots=True)
class PastTransition:
    """A move of GPUs of one node, with all its steps in order."""

    plan_id: str
    node: str
    devices: tuple[str, ...]
    to_mode: str
    started_at: float
    ended_at: float | None
    """None while it runs."""
    rolled_back: bool
    steps: tuple[PastStep, ...]


@dataclass(frozen=True, slots=True)
class DemandSample:
    """Counts at one instant, summed over the pools and models asked for."""

    at: float
    count: Count


@dataclass(frozen=True, slots=True)
class RestCall:
    """One writing call of the REST API."""

    at: float
    caller: str
    method: str
    path: str
    status: int
    code: str
    """Reason code of the answer; empty when it succeeded."""
    dry_run: bool
    request_id: str
