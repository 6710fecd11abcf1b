"""Whose review is read and decided next, so that neither the memory nor the time of a replica is one tenant's.

Bodies are read while the buffer has space for them. What has been read waits for its turn: one review is decided at a time, and
the namespaces take turns, so that a namespace with a thousand reviews is before every other's next with one of them.
Between two decisions the event loop reads what came meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MOST_WAITING = 256
"""Reviews of one namespace that wait for their turn; an API server has some hundred writes under way at once."""


class Crowded(Exception):
    """As many reviews of the namespace wait as may."""


class Buffer:
    """Bytes that may be held at once. Who asks for more than is left waits; first come, first served."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold so many, at most all of it."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, entered))
        self._let_in()
        try:
            await entered
            yield
        finally:
            if not entered.cancelled():
                self._left += size_bytes
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, entered = self._waiting[0]
            if not entered.cancelled():
                if size_bytes > self._left:
                    return
                self._left -= size_bytes
                entered.set_result(None)
            self._waiting.popleft()


class Turns:
    """One at a time, the namespaces in turns."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """In the order of their turns."""
        self._taken = False
        """Somebody has the turn, or is about to get it."""

    @asynccontextmanager
    async def turn(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn and have it. Raises Crowded."""
        loop = asyncio.get_running_loop()
        queue = self._waiting.setdefault(namespace, deque())
        if len(queue) >= MOST_WAITING:
            raise Crowded
        turn: asyncio.Future[None] = loop.create_future()
        queue.append(turn)
        if not self._taken:
            self._taken = True
            loop.call_soon(self._hand_on)
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():
                loop.call_soon(self._hand_on)

    def _hand_on(self) -> None:
        """To the first of the namespace whose turn it is; who has gone away meanwhile is passed over."""
        while self._waiting:
            namespace = next(iter(self._waiting))
            queue = self._waiting.pop(namespace)
            turn = queue.popleft()
            if queue:
                self._waiting[namespace] = queue
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._taken = False
