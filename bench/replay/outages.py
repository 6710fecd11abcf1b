"""Nodes that go away for a while: power, kernel, network. Their VMs and pods are cut off, and so is a move under way.

When is drawn for each node by itself, so that every policy of a scenario meets the same outages.
"""

from collections.abc import Iterator

import numpy as np

from bench.replay.state import ReplaySettings

DAY = 86_400.0


def outages_of(nodes: int, horizon: float, settings: ReplaySettings) -> Iterator[tuple[int, float, float]]:
    """(node, from, until) in seconds, for every outage that begins in [0, horizon). One follows the other at
    exponential intervals; a node that is away does not fail again."""
    if settings.outages <= 0:
        return
    for node in range(nodes):
        chance, at = np.random.default_rng((node, OUTAGES)), 0.0
        while (at := at + float(chance.exponential(DAY / settings.outages))) < horizon:
            yield node, at, at + settings.outage_seconds
            at += settings.outage_seconds


OUTAGES = 17
"""Keeps these draws apart from those of failing moves, which begin with a GPU's number."""
