"""A replay's clock, and what is still to happen on it."""

import heapq
from collections.abc import Iterator


class Timeline:
    """Events in order of time; of equal times, in the order in which they were entered."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, str, int]] = []
        self._count = 0

    def at(self, at: float, kind: str, subject: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, kind, subject))

    def until(self, end: float) -> Iterator[tuple[str, int]]:
        """Every event up to `end`, the clock set to it before it is given out; also those entered meanwhile."""
        while self._events and self._events[0][0] <= end:
            at, _, kind, subject = heapq.heappop(self._events)
            self.now = max(self.now, at)
            yield kind, subject
