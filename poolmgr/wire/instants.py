"""Instants as Kubernetes writes them (RFC 3339) and as everything here counts them (Unix seconds)."""

from datetime import UTC, datetime
from functools import lru_cache

LONGEST = 64
"""Characters; metav1.MicroTime has 27. What is longer is no instant, and is neither parsed nor remembered."""


def to_rfc3339(unix_seconds: float) -> str:
    """Kubernetes' metav1.Time: UTC, whole seconds, `Z`."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_micro(unix_seconds: float) -> str:
    """Kubernetes' metav1.MicroTime, as Leases use."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 instant. Raises ValueError on anything else, an instant of no zone among it."""
    if len(text) > LONGEST:
        raise ValueError(f"not an instant of RFC 3339: {text[:LONGEST]!r}…")
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError(f"not an instant of RFC 3339, for want of a zone: {text!r}")
    return found.timestamp()


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
