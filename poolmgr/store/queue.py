"""The ledger behind a queue: who writes history does not wait for it.

A database that is slow, far away or short of processor time would otherwise hold up the loop at every step of every
move. What is queued is written in its order; that the database does not work is said at the next call.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from poolmgr.controller.interfaces import Ledger, StepRecord
from poolmgr.domain.census import Census
from poolmgr.domain.errors import PoolError, Unavailable
from poolmgr.domain.history import RestCall
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason

LONGEST = 500
"""Records that may wait. A plan of a large fleet takes some hundred kilobytes."""
FLUSH_SECONDS = 3.0
"""For what is still queued when the process ends."""


class QueuedLedger:
    """Implements `controller.interfaces.Ledger` on another one. `run` must be running for anything to be written."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: deque[Callable[[], Awaitable[None]]] = deque()
        self._filled = asyncio.Event()
        self._failure: PoolError | None = None

    async def run(self) -> None:
        """Write what is queued, until cancelled; then what is left, for FLUSH_SECONDS at most."""
        try:
            while True:
                await self._filled.wait()
                await self._write_all()
        finally:
            try:
                await asyncio.wait_for(self._write_all(), FLUSH_SECONDS)
            except TimeoutError:
                self._queue.clear()

    async def _write_all(self) -> None:
        while self._queue:
            write = self._queue.popleft()
            try:
                await write()
                self._failure = None
            except PoolError as error:
                self._failure = error
        self._filled.clear()

    def _put(self, write: Callable[[], Awaitable[None]]) -> None:
        """Queue it. Raises what the last write raised, so that the caller knows; this one is tried all the same."""
        if len(self._queue) >= LONGEST:
            raise Unavailable(
                Reason.STORE_UNAVAILABLE,
                f"the history database is too slow: {LONGEST} records wait for it; history has a gap until it catches "
                "up, and GPUs are managed as before",
            )
        self._queue.append(write)
        self._filled.set()
        if self._failure is not None:
            raise self._failure

    async def record_plan(self, plan: Plan, *, pool: str, dry_run: bool, outcome: str) -> None:
        self._put(lambda: self._ledger.record_plan(plan, pool=pool, dry_run=dry_run, outcome=outcome))

    async def record_step(self, record: StepRecord) -> None:
        self._put(lambda: self._ledger.record_step(record))

    async def record_call(self, call: RestCall) -> None:
        self._put(lambda: self._ledger.record_call(call))

    async def record_sample(self, census: Census) -> None:
        self._put(lambda: self._ledger.record_sample(census))

    async def load_learned_state(self, planner: str) -> Any:
        """Not queued: the answer is waited for."""
        return await self._ledger.load_learned_state(planner)

    async def save_learned_state(self, planner: str, learned: Any) -> None:
        """Not queued: the planner goes on with the same value, which must not change while it is written."""
        await self._ledger.save_learned_state(planner, learned)
