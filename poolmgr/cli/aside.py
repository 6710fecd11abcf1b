"""Parts of a program that it can do without: one that fails says so once, and everything else goes on."""

from collections.abc import Awaitable, Callable

from poolmgr.domain.errors import Fault, PoolError
from poolmgr.domain.reasons import Reason


def briefly(error: BaseException) -> str:
    """One line about an error: a PoolError's own sentence, else its type and what it says."""
    if isinstance(error, PoolError):
        return error.message
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


async def aside(part: str, work: Awaitable[None], say: Callable[[str], None]) -> None:
    """Do `work`, which nothing depends on. Raises nothing but cancellation: a failure is one line to `say`."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody needs this part
        say(f"{part} stopped ({briefly(error)}); the rest continues")


def ended_by(part: str, error: BaseException) -> BaseException:
    """What a program raises when a part failed that it cannot do without: always a sentence for its user."""
    if isinstance(error, PoolError) or not isinstance(error, Exception):
        return error
    fault = Fault(
        Reason.INVARIANT_BROKEN,
        f"{part} failed ({briefly(error)}); start it again, with --verbose to see where it happened",
    )
    fault.__cause__ = error
    return fault
