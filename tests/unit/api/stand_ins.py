"""In-memory partners of the API: a controller that answers from values, a ledger that can be down."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from poolmgr.api.app import create_app
from poolmgr.api.auth import OpenAccess, TokenAccess
from poolmgr.controller import operator_requests
from poolmgr.controller.measures import Measures
from poolmgr.controller.results import RebalanceResult
from poolmgr.domain.access import AccessControl
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.census import Census, take_census
from poolmgr.domain.directives import Directives, Request
from poolmgr.domain.errors import PoolError, Unavailable
from poolmgr.domain.fleet import Node
from poolmgr.domain.history import DemandSample, Page, PastDecision, PastPlan, PastTransition, RestCall
from poolmgr.domain.plan import Plan, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from tests.showcase import NOW, fleet, plan


class StillClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here may wait")


@dataclass
class Steering:
    """A controller as the API sees it; `refuse` makes it say no."""

    snapshot: ClusterSnapshot | None = field(default_factory=fleet)
    plan: Plan | None = field(default_factory=plan)
    readiness: Verdict = field(default_factory=lambda: Verdict(True, Reason.ADMITTED, "leading"))
    refuse: PoolError | None = None
    asked: list[tuple[str, bool, int | None]] = field(default_factory=list)
    resting: tuple[Backoff, ...] = ()
    directed: list[tuple[str, Request, bool]] = field(default_factory=list)
    retried: list[tuple[str, tuple[str, ...], bool]] = field(default_factory=list)

    unforeseen: int = 0
    measures: Measures = field(default_factory=Measures)
    watch_ages: dict[str, float] = field(default_factory=dict)

    @property
    def census(self) -> Census | None:
        return take_census(self.snapshot) if self.snapshot is not None else None

    async def request_rebalance(
        self, pool: str, *, dry_run: bool, generation: int | None = None
    ) -> RebalanceResult:
        self.asked.append((pool, dry_run, generation))
        if self.refuse:
            raise self.refuse
        assert self.plan is not None
        return RebalanceResult(self.plan, self.plan.moves, (), dry_run)

    async def request_retry(
        self, node: str, devices: tuple[str, ...], *, dry_run: bool
    ) -> tuple[Backoff, ...]:
        self.retried.append((node, devices, dry_run))
        if self.refuse:
            raise self.refuse
        return self.resting

    async def change_directives(
        self, node: str, request: Request, *, dry_run: bool
    ) -> tuple[Node, Directives]:
        self.directed.append((node, request, dry_run))
        if self.refuse:
            raise self.refuse
        assert self.snapshot is not None
        return operator_requests.change_directives(self.snapshot, node, request)


@dataclass
class Records:
    """The ledger's read side and audit; `down` makes every call fail."""

    past_plans: tuple[PastPlan, ...] = ()
    past_transitions: tuple[PastTransition, ...] = ()
    past_decisions: tuple[PastDecision, ...] = ()
    past_samples: tuple[DemandSample, ...] = ()
    calls: list[RestCall] = field(default_factory=list)
    down: bool = False
    seen: dict[str, Any] = field(default_factory=dict)

    def _check(self, **arguments: Any) -> None:
        self.seen = arguments
        if self.down:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "the ledger does not work", 15)

    async def plans(self, *, pool: str = "", page_size: int = 50, page_token: str = "") -> Page[PastPlan]:
        self._check(pool=pool, page_size=page_size, page_token=page_token)
        return Page(self.past_plans)

    async def decisions(self, *, limit: int, without: frozenset[Reason]) -> tuple[PastDecision, ...]:
        self._check(limit=limit)
        return self.past_decisions

    async def transitions(
        self, *, node: str = "", page_size: int = 50, page_token: str = ""
    ) -> Page[PastTransition]:
        self._check(node=node, page_size=page_size, page_token=page_token)
        return Page(self.past_transitions)

    async def samples(self, *, since: float, until: float, pool: str = "") -> tuple[DemandSample, ...]:
        self._check(since=since, until=until, pool=pool)
        return self.past_samples

    async def rest_calls(self, *, page_size: int = 50, page_token: str = "") -> Page[RestCall]:
        self._check()
        return Page(tuple(self.calls))

    async def record_call(self, call: RestCall) -> None:
        self._check()
        self.calls.append(call)


def client(
    control: Steering | None = None,
    records: Records | None = None,
    token: str = "",
    hosts: frozenset[str] = frozenset(),
    access: AccessControl | None = None,
) -> httpx.AsyncClient:
    """An HTTP client of the app, without a socket."""
    records = records or Records()
    app = create_app(
        control=control or Steering(),
        history=records,
        audit=records,
        clock=StillClock(),
        access=TokenAccess(token) if token else access or OpenAccess(),
        hosts=hosts,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://poolmgr")
