"""Which tiers run now: as many side by side as there are cores, each after those that it waits for. No IO."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tools.suite.tiers import Tier


def next_tiers(
    waiting: Sequence[Tier],
    running: Collection[str],
    over: Collection[str],
    selected: Collection[str],
    lanes: int,
) -> list[Tier]:
    """Of `waiting`, in their order, those to start now. What a tier waits for counts only if it is `selected`."""
    free = lanes - len(running)
    ready = [tier for tier in waiting if all(name in over or name not in selected for name in tier.after)]
    return ready[: max(0, free)]
