"""Following demand where no forecast can be believed: nothing is held for hours ahead and no node is lent; a VM that
finds nothing free has the cheapest best-effort work ended for it, as long as that is cheap.

The price is what keeps it from being worse than binding each GPU when its VM comes and evicting nobody (B4 of the
benchmarks). Work that is thrown away has to be done again, and in a full cluster nobody has time for that: replays
of S8 at load 0.96 with dearer evictions do less work than B4, with cheaper ones they leave VMs waiting for little.
At this price, three weeks: .977 to .983 of the bound (B4: .951 to .959), VM sessions served .96 to .98 (.85 to .90).
"""

from math import ceil
from typing import Any

from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.inventory import GpuGroup
from poolmgr.planner.sizing.forecast import recent_rise_quantile
from poolmgr.planner.sizing.forecast_sizer import ForecastSettings
from poolmgr.planner.sizing.headroom import Headroom, headroom_of

KEEP_BINS = 3
KEEP_CHANCE = 0.3
"""GPUs that fell free are kept for what demand rose by within a quarter of an hour, three times in ten, in the last
hour: giving one back and fetching it again costs two moves and an eviction. Only on groups of a band
(`ForecastSettings.band_from_gpus`): of two GPUs it would be half, for an hour, while a container waits for it."""
RISK_AVERSION = -0.5
"""Of `ForecastSettings`: 42 minutes of one GPU's work for a VM that has just come, two minutes more for each second
that it waits."""


def size_reactively(group: GpuGroup, history: dict[str, Any], settings: ForecastSettings) -> Headroom:
    """GPUs to have ready, and what eviction may cost, from the pool's spec and the last hour of `history`."""
    headroom, message = headroom_of(group)
    band = settings.band_of(group.gpus) if any(history["levels"]) else 0
    rise = recent_rise_quantile(history, KEEP_BINS, 1.0 - KEEP_CHANCE)
    recent = ceil(rise - 1e-9) if group.gpus >= settings.band_from_gpus else 0
    if recent > headroom:
        message += f", plus up to {recent} that become free, because VMs arrived in the last hour"
    at_once, per_second = settings.price(RISK_AVERSION)
    return Headroom(
        max(headroom + band, recent),
        headroom,
        Reason.HEADROOM,
        message,
        work_at_once=at_once,
        work_per_second_waited=per_second,
    )
