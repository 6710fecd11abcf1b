"""Spare GPUs for VMs from the forecast: three horizons, each with its own price of being wrong.

- fetch: within the time that one move takes, a VM that finds nothing ready waits; such GPUs are moved while
  idle, so the quantile is high;
- drain: GPUs in use need longer; they are closed to new pods early enough to be empty when the rise comes;
- keep: giving a GPU back and fetching it again costs two moves and perhaps a drain, so what will probably be
  wanted soon is kept (the ski-rental argument: hold as long as holding is cheaper than moving twice).
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.forecast import bin_of, record, rise_quantile
from poolmgr.planner.shelving import ShelfKey
from poolmgr.planner.sizing import Spare, wanted_by_vms
from poolmgr.planner.stock import Shelf, Stock

Horizon = tuple[int, float]
"""(bins of five minutes ahead, quantile of the rise until then)."""


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """The further ahead, the longer a GPU held in vain would idle, and so the lower the quantile."""

    fetch: tuple[Horizon, ...] = ((3, 0.98),)
    drain: tuple[Horizon, ...] = ((3, 0.99), (6, 0.97), (12, 0.9), (24, 0.7))
    keep: tuple[Horizon, ...] = ((3, 0.99), (12, 0.97), (24, 0.85))
    drain_share: float = 0.8
    """Of the nodes, how many may be draining at once."""


class ForecastSizer:
    """Remembers the demand of each shelf; sizes the spare anew every five minutes."""

    def __init__(self, settings: ForecastSettings | None = None) -> None:
        self._settings = settings or ForecastSettings()

    def size(self, snapshot: ClusterSnapshot, stock: Stock, memory: Any) -> tuple[dict[ShelfKey, Spare], Any]:
        known: dict[str, Any] = memory.get("shelves", {}) if isinstance(memory, dict) else {}
        now_bin = bin_of(snapshot.taken_at)
        wanted = wanted_by_vms(snapshot, stock)
        spares: dict[ShelfKey, Spare] = {}
        remembered: dict[str, Any] = {}
        for key, shelf in stock.shelves.items():
            name = "/".join(key)
            entry = known.get(name, {})
            ledger = record(entry.get("ledger"), now_bin, wanted.get(key, 0))
            if entry.get("bin") == now_bin:
                ahead = entry["ahead"]
            else:
                ahead = self._ahead(ledger, now_bin)
            remembered[name] = {"ledger": ledger, "bin": now_bin, "ahead": ahead}
            spares[key] = _spare(shelf, ahead, self._settings.drain_share)
        return spares, {"shelves": remembered}

    def _ahead(self, ledger: dict[str, Any], now_bin: int) -> list[int]:
        """Rises to be ready for: [fetch, drain, keep]."""
        s = self._settings
        return [
            max(ceil(rise_quantile(ledger, now_bin, bins, quantile) - 1e-9) for bins, quantile in horizons)
            for horizons in (s.fetch, s.drain, s.keep)
        ]


def _spare(shelf: Shelf, ahead: list[int], drain_share: float) -> Spare:
    headroom = shelf.pool.passthrough.headroom
    fetch, drain, keep = (max(headroom, rise) for rise in ahead)
    keep = max(fetch, keep)
    message = f"up to {fetch} more GPU(s) may be wanted within minutes and {keep} within the hour, as on earlier days"
    return Spare(keep, fetch, Reason.HEADROOM, message, drain=max(fetch, drain), drain_share=drain_share)
