"""What an HTTP status means, the same in every process."""

import pytest

from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.wire.http_errors import LONGEST_MESSAGE, Absent, Expired, TooMany, error_of


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, Rejected, Reason.API_FORBIDDEN),
        (403, Rejected, Reason.API_FORBIDDEN),
        (404, Absent, Reason.NOT_FOUND),
        (409, Stale, Reason.STALE_GENERATION),
        (410, Expired, Reason.STALE_SNAPSHOT),
        (422, Rejected, Reason.INVALID_REQUEST),
        (412, Stale, Reason.STALE_GENERATION),
        (408, Unavailable, Reason.API_UNAVAILABLE),
        (429, TooMany, Reason.API_UNAVAILABLE),
        (500, Unavailable, Reason.API_UNAVAILABLE),
        (503, Unavailable, Reason.API_UNAVAILABLE),
    ],
)
def test_status_becomes_the_error_that_says_what_to_do(
    status: int, kind: type[PoolError], reason: Reason
) -> None:
    error = error_of(status, b'{"message":"said so"}', "GET /x")
    assert type(error) is kind
    assert error.reason is reason
    assert "said so" in error.message


def test_forbidden_says_what_to_grant() -> None:
    assert "Grant this service account" in error_of(403, b"{}", "GET /x").message


def test_retry_after_of_the_server_is_passed_on() -> None:
    error = error_of(429, b"{}", "x", retry_after_seconds=17)
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == 17


def test_body_that_is_no_status_is_quoted_shortly() -> None:
    assert "Bad Gateway" in error_of(502, b"<html>Bad Gateway</html>" + b"x" * 999, "x").message


def test_body_that_is_nested_too_deep_or_speaks_too_long_is_cut() -> None:
    assert error_of(500, b"[" * 100_000, "x").message.startswith("x: [[[")
    long = b'{"message":"' + b"a" * 1_000_000 + b'"}'
    assert len(error_of(500, long, "x").message) < LONGEST_MESSAGE + 10
