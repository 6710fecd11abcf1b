"""Errors named by what the caller must do next. Each adapter translates foreign exceptions into these four.

PoolError
├── Rejected      a rule says no: do not retry, tell the user
├── Stale         the world moved on: observe again, plan again
├── Unavailable   try again after `retry_after_seconds`, with jitter
└── Fault         an invariant is broken: stop, quarantine, alert
"""

from poolmgr.domain.reasons import Reason


class PoolError(Exception):
    """`reason` is a stable code, `message` one sentence that says what happened and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason.value}: {message}")
        self.reason = reason
        self.message = message


class Rejected(PoolError):
    """A rule is broken; the same request will be refused again."""


class Stale(PoolError):
    """Generation, lease epoch or resourceVersion moved; nothing was changed."""


class Unavailable(PoolError):
    """Something needed is out of reach for now."""

    def __init__(self, reason: Reason, message: str, retry_after_seconds: float = 5.0) -> None:
        super().__init__(reason, message)
        self.retry_after_seconds = retry_after_seconds


class Fault(PoolError):
    """What must never be, is. The device or node concerned is left alone until a human has looked."""
