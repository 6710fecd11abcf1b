"""Renders the page's regions, once per change for all who look on, and streams what changed.

Rendering happens in a thread: a page of a thousand nodes must not hold up the controller's loop.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jinja2

from poolmgr.api.ports import Control, History
from poolmgr.api.ui import chart, feed
from poolmgr.api.ui.view import make_view
from poolmgr.api.ui.wording import sentence
from poolmgr.domain.census import Census
from poolmgr.domain.errors import PoolError
from poolmgr.domain.history import DemandSample
from poolmgr.domain.plan import Plan, Verdict
from poolmgr.domain.snapshot import ClusterSnapshot

DAY = 86_400.0
REGIONS = ("clock", "headline", "trouble", "fleet", "moves", "waiting", "day", "feed", "pools")
Regions = dict[str, str]


@cache
def templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("poolmgr.api.ui"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


@dataclass(frozen=True, slots=True)
class _Past:
    """What the ledger had to say at `read_at` (cluster time)."""

    read_at: float = float("-inf")
    samples: tuple[DemandSample, ...] = ()
    lines: tuple[Any, ...] = ()
    error: str = ""


@dataclass(slots=True)
class LivePage:
    """The newest rendering. `pace` is shown beside the clock, e.g. `60 times real time`."""

    control: Control
    history: History
    pace: str = ""
    interval_seconds: float = 1.0
    history_seconds: float = 5.0
    """Real seconds between two looks at the ledger."""
    _regions: Regions = field(default_factory=dict)
    _rendered_of: tuple[Any, ...] = ()
    _past: _Past = field(default_factory=_Past)
    _past_due: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def regions(self) -> Regions:
        """HTML by region name, of the newest snapshot."""
        async with self._lock:
            census, plan, standing = self.control.census, self.control.plan, self.control.standing
            if census is None or not census.snapshot.synced:
                return _blind(standing)
            snapshot = census.snapshot
            await self._look_back(snapshot, plan)
            of = (snapshot.generation, snapshot.taken_at, plan and plan.plan_id, standing, self._past)
            if of != self._rendered_of:
                begun = time.monotonic()
                self._regions = await asyncio.to_thread(
                    _render, census, plan, standing, self._past, self.pace
                )
                # Never spend more than a tenth of one core on looking nice.
                self.interval_seconds = max(1.0, 10 * (time.monotonic() - begun))
                self._rendered_of = of
            return self._regions

    async def changes(self, stopping: asyncio.Event) -> AsyncIterator[str]:
        """Server-sent events until `stopping`: at first every region, then those that differ."""
        seen: Regions = {}
        while not stopping.is_set():
            now = await self.regions()
            changed = {name: html for name, html in now.items() if seen.get(name) != html}
            seen = now
            # A comment keeps proxies from closing a quiet connection and shows the client that we live.
            yield f"data: {json.dumps(changed)}\n\n" if changed else ": still here\n\n"
            try:
                await asyncio.wait_for(stopping.wait(), self.interval_seconds)
            except TimeoutError:
                continue

    async def _look_back(self, snapshot: ClusterSnapshot, plan: Plan | None) -> None:
        if time.monotonic() < self._past_due:
            return
        self._past_due = time.monotonic() + self.history_seconds
        now = snapshot.taken_at
        try:
            samples = await self.history.samples(since=now - DAY, until=now)
            moves = await self.history.transitions(page_size=20)
            decisions = await self.history.decisions(limit=40, without=feed.QUIET)
            self._past = _Past(now, samples, feed.from_ledger(decisions, moves.items))
        except PoolError as error:
            self._past = _Past(now, self._past.samples, feed.from_plan(plan), sentence(error.message))


def _render(census: Census, plan: Plan | None, standing: Verdict, past: _Past, pace: str) -> Regions:
    view = make_view(census, plan, standing)
    macros: Any = templates().get_template("regions.html", globals={"pace": pace}).module
    return {
        "clock": str(macros.clock(view)),
        "headline": str(macros.headline(view)),
        "trouble": str(macros.trouble(view)).strip(),
        "fleet": str(macros.fleet(view)),
        "moves": str(macros.moves(view)),
        "waiting": str(macros.waiting(view)),
        "day": str(macros.day(chart.draw(past.samples), past.error)),
        "feed": str(macros.feed(past.lines, past.error)),
        "pools": str(macros.pools(view)),
    }


def _blind(standing: Verdict) -> Regions:
    text = sentence(standing.message) or "This takes seconds after the manager's start."
    page = templates().get_template("blind.html")
    return dict.fromkeys(REGIONS, "") | {
        "headline": page.render(title="The manager does not see the cluster yet", message=text)
    }
