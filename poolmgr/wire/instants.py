"""Instants as Kubernetes writes them (RFC 3339) and as everything here counts them (Unix seconds)."""

import re
from datetime import UTC, datetime
from functools import lru_cache

LONGEST = 64
"""Characters; metav1.MicroTime has 27. What is longer is no instant, and is neither parsed nor remembered."""

EARLIEST, LATEST = datetime(2, 1, 1, tzinfo=UTC).timestamp(), datetime(9000, 1, 1, tzinfo=UTC).timestamp()
"""Python's calendar ends with the years 1 and 9999: within these bounds a notice period or a zone leads nowhere beyond it."""

_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}):(\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
"""Day, hours and minutes, seconds, decimals, zone."""


def to_rfc3339(unix_seconds: float) -> str:
    """Kubernetes' metav1.Time: UTC, whole seconds, `Z`."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_micro(unix_seconds: float) -> str:
    """Kubernetes' metav1.MicroTime, as Leases use."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 instant, in any of its forms: `T` and `Z` in either case or a blank for the `T`, any
    number of decimals, a leap second (the end of its minute). Raises ValueError on anything else."""
    found = _INSTANT.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise ValueError(f"not an instant of RFC 3339: {text[:LONGEST]!r}")
    day, hours, seconds, fraction, zone = found.groups()
    leap = seconds == "60"
    offset = "+00:00" if zone in "zZ" else zone
    moment = datetime.fromisoformat(f"{day}T{hours}:{'59' if leap else seconds}{offset}")
    unix = moment.timestamp() + (1.0 if leap else float(f"0.{fraction or 0}"))
    if not EARLIEST <= unix < LATEST:
        raise ValueError(f"not an instant between the years 2 and 9000: {text!r}")
    return unix


def unix_or_zero(text: str | None) -> float:
    """Unix seconds; 0.0 where there is no instant or it is not readable."""
    if not text or len(text) > LONGEST:
        return 0.0
    return _unix_or_zero(text)


@lru_cache(maxsize=65536)
def _unix_or_zero(text: str) -> float:
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError):
        return 0.0
