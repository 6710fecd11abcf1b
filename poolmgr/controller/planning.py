"""The loop's planner, what it has learned, and its newest plan, which answers for as long as it is current.

A plan of a large fleet takes a noticeable part of a second. It is a function of values that nobody changes, so it is made
beside the event loop, which hears the cluster and answers its users meanwhile.
"""

from dataclasses import replace
from typing import Any

from poolmgr.controller.beside import Beside
from poolmgr.controller.event_reporter import EventReporter
from poolmgr.controller.pace import Waiting, waiting_vms
from poolmgr.domain.fleet import Pool
from poolmgr.domain.plan import Plan
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import moves_by_itself
from poolmgr.kit.clock import Clock
from poolmgr.planner.interfaces import Decision, Planner
from poolmgr.planner.waiting_times import WaitingTimes

WAITS = "waiting-times"
"""What is kept of how long workloads waited, beside what the planner learned."""
CURRENT_SECONDS = 5.0
"""A plan may be so old and still say what would be done now. While things change, the loop plans every second or two."""


class Planning:
    """One plan is made at a time: the caller sees to that."""

    def __init__(
        self,
        planner: Planner,
        reporter: EventReporter,
        clock: Clock,
        beside: Beside,
        *,
        sample_seconds: float,
        save_seconds: float,
    ) -> None:
        """`sample_seconds`: between two looks of a standby, and between two tries to read what was learned before;
        `save_seconds`: between two times that what was learned is saved."""
        self._planner = planner
        self._reporter = reporter
        self._clock = clock
        self._beside = beside
        self._sample_seconds = sample_seconds
        self._save_seconds = save_seconds
        self._learned: Any = None
        self._times = WaitingTimes()
        self._times_recalled = False
        self._times_tried_at = float("-inf")
        self._leads = False
        """It has decided since waits were kept last: what a standby knows of them is older than what is kept."""
        self._recalled = False
        self._recalled_at = self._learnt_at = float("-inf")
        self._saved_at = clock.monotonic()
        self._pools: tuple[Pool, ...] = ()
        self._waiting: frozenset[Waiting] = frozenset()
        self.plan: Plan | None = None
        """The newest decision."""

    async def decide(self, snapshot: ClusterSnapshot) -> Plan:
        """Plan, and learn."""
        learned = await self._recall()
        await self._recall_times()
        self._leads = True

        def work() -> Decision:
            decision = self._planner.decide(snapshot, learned)
            estimates = self._times.follow(decision.plan, snapshot)
            return replace(decision, plan=replace(decision.plan, estimates=estimates))

        decision = await self._beside(work)
        self._learned, self.plan = decision.learned, decision.plan
        self._pools, self._waiting = snapshot.pools, waiting_vms(snapshot)
        return decision.plan

    async def learn(self, snapshot: ClusterSnapshot) -> None:
        """A standby sees the same demand as the leader: what it learns of it spares a takeover the first days."""
        now = self._clock.monotonic()
        if now - self._learnt_at >= self._sample_seconds:
            self._learnt_at = now
            self._learned = (await self._plan(snapshot)).learned

    async def answer(self, snapshot: ClusterSnapshot) -> Plan:
        """What would be decided on this snapshot, which may be an operator's; nothing is learned of it."""
        return (await self._plan(snapshot)).plan

    def current(self, snapshot: ClusterSnapshot, pool: Pool) -> Plan | None:
        """The newest plan if it still says what an operator's word would do in `pool`: recent, made under the same
        pools and for every VM that waits, and where that word changes nothing. None where a plan has to be made to
        know."""
        plan = self.plan
        if plan is None or snapshot.taken_at - plan.made_at > CURRENT_SECONDS or not moves_by_itself(pool):
            return None
        return plan if snapshot.pools == self._pools and waiting_vms(snapshot) <= self._waiting else None

    async def save(self) -> None:
        """Save what was learned, if it is time."""
        now = self._clock.monotonic()
        if self._recalled and now - self._saved_at >= self._save_seconds:
            self._saved_at = now
            if self._learned is not None:
                await self._reporter.save_learned_state(self._planner.name, self._learned)
            if self._leads and self._times_recalled and (waits := self._times.learned()):
                await self._reporter.save_learned_state(WAITS, waits)
            self._leads = False

    async def _plan(self, snapshot: ClusterSnapshot) -> Decision:
        learned = await self._recall()
        began = self._clock.monotonic()
        decision = await self._beside(lambda: self._planner.decide(snapshot, learned))
        self._reporter.measures.plan_seconds.observe(self._clock.monotonic() - began)
        return decision

    async def _recall(self) -> Any:
        """What the planner remembers. While the ledger cannot be read it goes on with what it has learnt since, and
        nothing is kept, so that weeks are not overwritten with minutes."""
        now = self._clock.monotonic()
        if not self._recalled and now - self._recalled_at >= self._sample_seconds:
            self._recalled_at = now
            found = await self._reporter.load_learned_state(self._planner.name)
            if found is not None:
                self._recalled = True
                self._learned = self._learned if found[0] is None else found[0]
        return self._learned

    async def _recall_times(self) -> None:
        """How long workloads waited before this manager led; added to what it has seen itself."""
        now = self._clock.monotonic()
        if self._times_recalled or now - self._times_tried_at < self._sample_seconds:
            return
        self._times_tried_at = now
        found = await self._reporter.load_learned_state(WAITS)
        if found is not None:
            self._times_recalled = True
            self._times.recall(found[0])
