"""What a request of an operator came to."""

from dataclasses import dataclass

from poolmgr.domain.plan import Move, Plan, Refusal


@dataclass(frozen=True, slots=True)
class RebalanceResult:
    """What a rebalance came to: the plan restricted to the pool, and what of it was started."""

    plan: Plan
    started: tuple[Move, ...]
    refused: tuple[Refusal, ...]
    dry_run: bool
