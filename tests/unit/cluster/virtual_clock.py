"""Time that passes only when a test says so, for code that waits."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable


class VirtualClock:
    """Implements `kit.clock.Clock`. `jump` moves the wall clock alone."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._at = 1000.0
        self._wall = wall - self._at
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._wall + self._at

    def monotonic(self) -> float:
        return self._at

    def jump(self, seconds: float) -> None:
        self._wall += seconds

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._at + max(0.0, seconds), self._count, future))
        await future

    async def settle(self) -> None:
        """Let everything run that does not wait for time."""
        for _ in range(60):
            await asyncio.sleep(0)

    async def advance(self, seconds: float, each: Callable[[], None] | None = None) -> None:
        """Let `seconds` pass, waking sleepers in their order; `each` runs after every wake-up."""
        end = self._at + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            self._at = max(self._at, at)
            if not future.done():
                future.set_result(None)
            await self.settle()
            if each is not None:
                each()
        self._at = end
        await self.settle()

    async def stop(self, seconds: float) -> None:
        """Time passes and nobody notices: what a process sees that was stopped and goes on."""
        self._at += seconds


class Skewed:
    """The same passing of time on another machine, with a wall clock of its own."""

    def __init__(self, clock: VirtualClock, wall_offset: float) -> None:
        self._clock = clock
        self.wall_offset = wall_offset

    def now(self) -> float:
        return self._clock.now() + self.wall_offset

    def monotonic(self) -> float:
        return self._clock.monotonic() + 5_000.0

    def sleep(self, seconds: float) -> Awaitable[None]:
        return self._clock.sleep(seconds)
