"""Long work on values that nobody changes, such as a plan of a large fleet: done beside the event loop, which goes on."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Beside(Protocol):
    """Does the work, e.g. in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def in_the_loop(work: Callable[[], T], /) -> T:
    """For small fleets and simulated time: the loop stands still meanwhile."""
    return work()
