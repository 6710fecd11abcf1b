"""What every planner is: one pure function from (snapshot, learned) to (plan, learned)."""

from dataclasses import dataclass
from typing import Any, Protocol

from poolmgr.domain.plan import Plan
from poolmgr.domain.snapshot import ClusterSnapshot


@dataclass(frozen=True, slots=True)
class Decision:
    plan: Plan
    learned: Any
    """What the planner has learned by now. Opaque to the caller, who passes it back at the next call. JSON-like values only, so that the ledger
    can keep it over a restart; losing it costs quality, never safety."""


class Planner(Protocol):
    """Implementations hold only configuration. Equal inputs give equal decisions."""

    @property
    def name(self) -> str: ...

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        """Plan for `snapshot`. `learned` is None at the first call. Raises nothing on a strange snapshot:
        what cannot be planned becomes a refusal."""
        ...
