"""RFC 3339 from the wire, tolerant of absence."""

from functools import lru_cache

from poolmgr.kit.clock import from_rfc3339


@lru_cache(maxsize=65536)
def unix_or_zero(text: str | None) -> float:
    """Unix seconds; 0.0 where there is no instant or it is not readable."""
    if not text:
        return 0.0
    try:
        return from_rfc3339(text)
    except ValueError:
        return 0.0
