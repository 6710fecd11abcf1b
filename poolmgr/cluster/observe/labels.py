"""Labels as values that are the same one for all pods of a template."""

from collections.abc import Mapping
from functools import lru_cache

from poolmgr.domain.demand import Labels


def pairs_of(labels: Mapping[str, str]) -> Labels:
    """Sorted; equal ones are the very same value."""
    return _same(tuple(sorted(labels.items()))) if labels else ()


@lru_cache(maxsize=65_536)
def _same(pairs: Labels) -> Labels:
    return pairs
