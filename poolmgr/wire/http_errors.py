"""What an HTTP status of the API server means: one of the domain's errors, named by what the caller must do next."""

import msgspec

from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.wire.meta import Status

OK = 200
SERVER_ERROR = 500
RETRY_SECONDS = 5.0
"""Where the server does not say."""
LONGEST_MESSAGE = 2_000
"""Characters of a server's own words that are passed on."""


class Absent(Rejected):
    """404: no such object, or no such kind in this cluster."""


class Expired(Stale):
    """410: the resourceVersion or continue token is too old. List again."""


class TooMany(Unavailable):
    """429: the server sheds load; as an answer to an eviction, a disruption budget says no."""


def is_success(status: int) -> bool:
    return 200 <= status < 300


def error_of(status: int, body: bytes, what: str, retry_after_seconds: float | None = None) -> PoolError:
    """The error that a status other than 2xx stands for, in the API server's own words. `what` was tried."""
    said = message_of(status, body)
    match status:
        case 404:
            return Absent(Reason.NOT_FOUND, f"{what}: {said}")
        case 409 | 412:
            return Stale(Reason.STALE_GENERATION, f"{what}: {said}; read the object again and decide again.")
        case 410:
            return Expired(Reason.STALE_SNAPSHOT, f"{what}: {said}")
        case 401 | 403:
            return Rejected(
                Reason.API_FORBIDDEN,
                f"{what}: {said}. Grant this service account the verb (the chart's ClusterRoles do), or check its token.",
            )
        case 408 | 429 | 500 | 502 | 503 | 504:
            wait = retry_after_seconds if retry_after_seconds is not None else RETRY_SECONDS
            kind = TooMany if status == 429 else Unavailable
            return kind(Reason.API_UNAVAILABLE, f"{what}: {said}", retry_after_seconds=wait)
        case _:
            return Rejected(Reason.INVALID_REQUEST, f"{what}: HTTP {status}: {said}")


def message_of(status: int, body: bytes) -> str:
    """`message` of the metav1.Status in the body, or the body's beginning."""
    try:
        message = msgspec.json.decode(body, type=Status).message
    except (msgspec.DecodeError, RecursionError):
        message = ""
    said = message[:LONGEST_MESSAGE] or body[:200].decode(errors="replace")
    return said or f"HTTP {status}"
