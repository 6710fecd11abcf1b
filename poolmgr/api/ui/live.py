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

from poolmgr.api.interfaces import Control, History
from poolmgr.api.ui import chart, feed
from poolmgr.api.ui.fleet import Picture, part_name
from poolmgr.api.ui.view import make_view
from poolmgr.api.ui.wording import clock_time, day_and_time, sentence
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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("poolmgr.api.ui"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"clock": clock_time, "moment": day_and_time}
    return environment


@cache
def _macros() -> Any:
    return templates().get_template("regions.html").module


@dataclass(frozen=True, slots=True)
class _Past:
    """What the ledger had to say at `read_at` (cluster time)."""

    read_at: float = float("-inf")
    samples: tuple[DemandSample, ...] = ()
    lines: tuple[Any, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody sees: the regions of the page, and within `fleet` the parts that change by themselves."""

    regions: Regions
    parts: Regions = field(default_factory=dict)
    """Region → HTML, of each node's card and of the table above them."""
    frame: tuple[Any, ...] = ()
    """What `fleet` is made of beside its parts."""

    def since(self, before: "Shown | None") -> Regions:
        """The regions that differ; of the fleet only the parts that do, where it has the same ones."""
        if before is None:
            return self.regions
        changed = {name: html for name, html in self.regions.items() if before.regions.get(name) != html}
        if "fleet" in changed and self.frame and self.frame == before.frame:
            del changed["fleet"]
            changed |= {name: html for name, html in self.parts.items() if before.parts.get(name) != html}
        return changed


@dataclass(slots=True)
class LivePage:
    """The newest rendering. `pace` is shown beside the clock, e.g. `60 times real time`."""

    control: Control
    history: History
    pace: str = ""
    interval_seconds: float = 1.0
    history_seconds: float = 5.0
    """Real seconds between two looks at the ledger."""
    _picture: Picture = field(default_factory=lambda: Picture(lambda card: str(_macros().node(card))))
    _shown: dict[int, Shown] = field(default_factory=dict)
    """Of `_rendered_of`, by page of the fleet."""
    _rendered_of: tuple[Any, ...] = ()
    _drawn: tuple[_Past | None, Regions] = (None, {})
    _past: _Past = field(default_factory=_Past)
    _past_due: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def shown(self, page: int = 1) -> Shown:
        """The newest snapshot, with this page of its nodes."""
        async with self._lock:
            census, plan, readiness = self.control.census, self.control.plan, self.control.readiness
            if census is None or not census.snapshot.synced:
                return Shown(_blind(readiness))
            snapshot = census.snapshot
            await self._look_back(snapshot, plan)
            of = (snapshot.generation, snapshot.taken_at, plan and plan.plan_id, readiness, self._past)
            if of != self._rendered_of:
                self._rendered_of, self._shown = of, {}
            if page not in self._shown:
                begun = time.monotonic()
                self._shown[page] = await asyncio.to_thread(self._render, census, plan, readiness, page)
                # Never spend more than a tenth of one core on looking nice.
                self.interval_seconds = max(1.0, 10 * (time.monotonic() - begun))
            return self._shown[page]

    async def changes(self, stopping: asyncio.Event, page: int = 1) -> AsyncIterator[str]:
        """Server-sent events until `stopping`: at first every region, then those that differ. One that changes nothing is
        sent too: it keeps proxies from closing a quiet connection and tells the page that what it shows is still so.
        `every`: seconds until the next."""
        seen: Shown | None = None
        while not stopping.is_set():
            now = await self.shown(page)
            changed, seen = now.since(seen), now
            yield f"data: {json.dumps({'every': self.interval_seconds, 'regions': changed})}\n\n"
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

    def _render(self, census: Census, plan: Plan | None, readiness: Verdict, page: int) -> Shown:
        view, macros = make_view(census, plan, readiness), _macros()
        fleet = self._picture.view(census, plan, page)
        if self._drawn[0] is not self._past:
            past = self._past
            day = str(macros.day(chart.draw(past.samples), past.error))
            self._drawn = past, {"day": day, "feed": str(macros.feed(past.lines, past.error))}
        regions = {
            "clock": str(macros.clock(view, self.pace)),
            "headline": str(macros.headline(view)),
            "trouble": str(macros.trouble(view)).strip(),
            "fleet": str(macros.fleet(fleet)),
            "moves": str(macros.moves(view)),
            "waiting": str(macros.waiting(view)),
            **self._drawn[1],
            "pools": str(macros.pools(view)),
        }
        parts = {part_name(name): card for name, card in fleet.cards}
        if fleet.rows:
            parts["models"] = str(macros.models(fleet))
        frame = (fleet.page, fleet.pages, fleet.total, tuple(parts))
        return Shown({name: regions[name] for name in REGIONS}, parts, frame)


def _blind(readiness: Verdict) -> Regions:
    text = sentence(readiness.message) or "This takes a few seconds after the manager starts."
    page = templates().get_template("blind.html")
    return dict.fromkeys(REGIONS, "") | {
        "headline": page.render(title="The manager cannot see the cluster yet", message=text)
    }
