"""Time as something that is passed in. The only place that reads the machine's clocks."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for deadlines, and waiting."""

    def now(self) -> float:
        """Unix seconds (UTC). May jump; never used for deadlines that protect something."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        # Unlike CLOCK_MONOTONIC it goes on while the machine is suspended: a lease expires meanwhile.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
