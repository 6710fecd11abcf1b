"""What the API needs, as protocols. The controller and the store provide them; see `poolmgr.cli.manager`."""

from collections.abc import Mapping
from typing import Protocol

from poolmgr.controller.measures import Measures
from poolmgr.controller.results import RebalanceResult
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.census import Census
from poolmgr.domain.directives import Directives, Request
from poolmgr.domain.fleet import Node
from poolmgr.domain.history import DemandSample, Page, PastDecision, PastPlan, PastTransition, RestCall
from poolmgr.domain.plan import Plan, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot


class Control(Protocol):
    """The controller, as far as the API may see and ask it."""

    @property
    def snapshot(self) -> ClusterSnapshot | None:
        """The newest view; None until there was one."""
        ...

    @property
    def census(self) -> Census | None:
        """`snapshot`, counted."""
        ...

    @property
    def plan(self) -> Plan | None:
        """The newest decision."""
        ...

    @property
    def readiness(self) -> Verdict:
        """Whether this manager acts, and if not, why."""
        ...

    @property
    def unforeseen(self) -> int:
        """Exceptions that were met and are a defect of this program."""
        ...

    @property
    def measures(self) -> Measures:
        """What it has done and waited for since it began."""
        ...

    @property
    def watch_ages(self) -> Mapping[str, float]:
        """Seconds since each kind that is watched was last confirmed."""
        ...

    async def request_rebalance(
        self, pool: str, *, dry_run: bool, generation: int | None = None
    ) -> RebalanceResult:
        """Plan for one pool now and, unless `dry_run`, start it. Raises PoolError; then nothing changed."""
        ...

    async def request_retry(
        self, node: str, devices: tuple[str, ...], *, dry_run: bool
    ) -> tuple[Backoff, ...]:
        """End pauses after failed moves, unless `dry_run`; whose. Raises PoolError; then nothing changed."""
        ...

    async def change_directives(
        self, node: str, request: Request, *, dry_run: bool
    ) -> tuple[Node, Directives]:
        """Note what an operator wants of a node's GPUs, unless `dry_run`: the node as it was, and all its directives from then
        on. Raises PoolError; then nothing changed."""
        ...


class History(Protocol):
    """The ledger's read side. Every method raises Unavailable when the ledger does not answer."""

    async def plans(self, *, pool: str = "", page_size: int = 50, page_token: str = "") -> Page[PastPlan]: ...

    async def decisions(self, *, limit: int, without: frozenset[Reason]) -> tuple[PastDecision, ...]:
        """The newest moves begun, and the newest workloads told to wait except for the reasons in `without`: up to `limit`
        of each."""
        ...

    async def transitions(
        self, *, node: str = "", page_size: int = 50, page_token: str = ""
    ) -> Page[PastTransition]: ...

    async def samples(self, *, since: float, until: float, pool: str = "") -> tuple[DemandSample, ...]: ...

    async def rest_calls(self, *, page_size: int = 50, page_token: str = "") -> Page[RestCall]: ...


class Audit(Protocol):
    async def record_call(self, call: RestCall) -> None:
        """Keep one writing call. Raises Unavailable when the ledger does not answer."""
        ...
