"""ResourceQuotas that limit GPU memory and compute: keys `limits.<resource>` in `spec.hard`."""

from collections.abc import Iterable
from typing import Any

from e2e.hami.standin.configuration import NvidiaConfiguration
from e2e.hami.standin.quantity import whole
from e2e.hami.standin.release import Release

Json = dict[str, Any]


def limits_of(
    namespace: str, quotas: Iterable[Json], config: NvidiaConfiguration, release: Release
) -> tuple[int | None, int | None]:
    """Limits of memory (in the unit that shares are counted in) and cores; None is no limit."""
    found: dict[str, int] = {}
    for quota in quotas:
        if quota["metadata"]["namespace"] != namespace:
            continue
        for key, value in (quota["spec"].get("hard") or {}).items():
            amount = whole(value)
            if amount is not None and (amount or release.blocks_by_zero_quota):
                found[key] = amount
    memory = found.get(f"limits.{config.memory_name}")
    if memory is not None:
        memory *= max(config.memory_factor, 1)
    return memory, found.get(f"limits.{config.cores_name}")
