"""Time that jumps: asyncio tasks and callbacks run in order of virtual time, as fast as the machine can."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from poolmgr.kit.clock import Clock

SETTLE_ROUNDS = 24
"""How often waiting tasks are let run before time moves on. A task that only waits for this clock needs one
round for each await between two of its sleeps; 24 is far above what the controller has."""


@dataclass(order=True)
class _Entry:
    at: float
    order: int
    fire: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """A `Clock` whose time moves only in `run_until`. Equal calls at equal times fire in order of arrival."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._entries: list[_Entry] = []
        self._woken = False

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def call_at(self, at: float, callback: Callable[[], None]) -> _Entry:
        """Call back at virtual time `at` (at once when that has passed); the answer can be cancelled."""
        entry = _Entry(max(at, self._now), next(self._order), callback)
        heapq.heappush(self._entries, entry)
        return entry

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Entry:
        return self.call_at(self._now + seconds, callback)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        entry = self.call_later(max(seconds, 0.0), lambda: self.wake(woken))
        try:
            await woken
        finally:
            entry.cancel()

    def wake(self, waiter: asyncio.Future[None]) -> None:
        """Let a task that waits on `waiter` run before time moves on."""
        if not waiter.done():
            waiter.set_result(None)
            self._woken = True

    async def settle(self) -> None:
        """Let every task that can run do so, without moving time."""
        for _ in range(SETTLE_ROUNDS):
            await asyncio.sleep(0)
        self._woken = False

    async def run_until(self, at: float) -> None:
        """Fire everything due up to and including `at`; afterwards `now()` is `at`."""
        await self.settle()
        while self._entries and self._entries[0].at <= at:
            entry = heapq.heappop(self._entries)
            if entry.cancelled:
                continue
            self._now = entry.at
            entry.fire()
            if self._woken:
                await self.settle()
        self._now = max(self._now, at)

    async def run_for(self, seconds: float) -> None:
        await self.run_until(self._now + seconds)

    async def run_paced(self, wall: Clock, speed: float, *, frame_seconds: float = 0.1) -> None:
        """Move `speed` times as fast as `wall`, in frames of wall time, until cancelled."""
        begun, start = wall.monotonic(), self._now
        while True:
            await self.run_until(start + (wall.monotonic() - begun) * speed)
            await wall.sleep(frame_seconds)
