"""The times of the manager's lease, and the rule that they must keep. Light, so that a command line can check them."""

from dataclasses import dataclass

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

REQUEST_TIMEOUT_SECONDS = 4.0
"""How long a request may take, a write among them (`client`)."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """The defaults are client-go's. A write that was begun while leading must be over before anyone else can
    lead, hence the rule that is checked."""

    namespace: str = "poolmgr-system"
    name: str = "poolmgr-manager"
    duration_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not (
            self.retry_seconds > 0
            and self.renew_deadline_seconds >= 2 * self.retry_seconds
            and self.duration_seconds > self.renew_deadline_seconds + REQUEST_TIMEOUT_SECONDS
        ):
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"The lease settings do not fit together: the duration ({self.duration_seconds} s) must exceed "
                f"the renew deadline ({self.renew_deadline_seconds} s) by more than a request may take "
                f"({REQUEST_TIMEOUT_SECONDS} s), and the deadline two retries ({self.retry_seconds} s each).",
            )
