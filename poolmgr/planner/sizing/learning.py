"""The forecast as a manager may use it: only where there is a past that speaks for this hour, and that has not
expected too much of late (`accuracy`). Elsewhere demand is followed as it comes (`reactive`), and the sentence says so.

A replay begins with weeks of history under a clock that never errs; a manager begins with nothing, on a pool of two
GPUs perhaps, and is handed whatever a database kept (`learned_state`).
"""

from dataclasses import replace
from typing import Any

from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.accuracy import is_accurate
from poolmgr.planner.sizing.forecast import BIN_SECONDS, BINS_A_WEEK, bin_of
from poolmgr.planner.sizing.forecast_sizer import ForecastSettings, ForecastSizer
from poolmgr.planner.sizing.headroom import Headroom, headroom_of
from poolmgr.planner.sizing.learned_state import LAYOUT, at_this_clock, examined
from poolmgr.planner.sizing.reactive import size_reactively

SMALL_GROUP = 50
"""GPUs. On fewer, one that is kept ready for nobody in particular is more than the hundredth that it should be."""

MISREAD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a learned state that only looks like ours may raise in the forecast."""


class LearningSizer:
    """`ForecastSizer` where its forecast can be believed, `reactive` elsewhere. Beside its configuration it holds the
    learned state that it returned last, to recognise it: that one need not be examined again."""

    def __init__(self, settings: ForecastSettings | None = None) -> None:
        self._settings = replace(settings or ForecastSettings(), band_from_gpus=SMALL_GROUP)
        self._forecast = ForecastSizer(self._settings)
        self._own: Any = None

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        known, anew = learned, ""
        if learned is not None and learned is not self._own:
            known, anew = examined(learned)
        now_bin = bin_of(snapshot.taken_at)
        groups, aside = at_this_clock(known, snapshot.taken_at)
        try:
            forecast, learned_now = self._forecast.size(snapshot, inventory, {"groups": groups})
        except MISREAD as error:
            # Fail open: a manager that cannot read what it knew yesterday still serves whoever waits today.
            anew = f"the saved demand history does not fit ({type(error).__name__})"
            groups, aside = {}, {}
            forecast, learned_now = self._forecast.size(snapshot, inventory, {"groups": {}})
        if not anew and known is not None:
            anew = known.get("anew", "")
        found: dict[GroupKey, Headroom] = {}
        for key, headroom in forecast.items():
            group, name = inventory.groups[key], "/".join(key)
            entry, before = learned_now["groups"][name], groups.get(name, {})
            entry["accurate"] = accurate = _is_accurate(before, entry)
            if accurate:
                found[key] = replace(headroom, message=_as_on_earlier_days(group, headroom))
                continue
            # VMs that wait because no forecast served them say nothing of how careful it has to be.
            aversion = before.get("risk_aversion") or {}
            entry["risk_aversion"]["level"] = aversion.get("level", self._settings.aversion_at_start)
            reactive = size_reactively(group, entry["history"], self._settings)
            found[key] = _because(reactive, entry["history"], now_bin, anew)
        groups = {**aside, **learned_now["groups"]}
        self._own = {"layout": LAYOUT, "groups": groups, **({"anew": anew} if anew else {})}
        return found, self._own


def _is_accurate(before: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Judged anew every five minutes, as the forecast is made."""
    accurate = before.get("accurate") is not False
    if "accurate" in before and before.get("bin") == entry["bin"]:
        return accurate
    return is_accurate(accurate, entry["history"], entry["bin"])


def _as_on_earlier_days(group: GpuGroup, headroom: Headroom) -> str:
    least, ready = headroom_of(group)
    if headroom.prefetch > least:
        return (
            f"judging by earlier days, up to {headroom.prefetch} more GPU(s) may be needed within minutes and {headroom.keep} "
            "within hours"
        )
    if headroom.keep > least:
        soon = f"judging by earlier days, up to {headroom.keep} more GPU(s) may be needed within hours"
        return f"{ready}; {soon}" if least else soon
    return ready


def _because(headroom: Headroom, history: dict[str, Any], now_bin: int, anew: str) -> Headroom:
    """With the reason why nothing is forecast."""
    bins = now_bin - int(history["first"])
    if not any(history["levels"]):
        why = "no VM has asked for one yet, so there is nothing to forecast"
    elif bins < BINS_A_WEEK:
        hours = bins * BIN_SECONDS / 3_600
        known = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} h" if hours >= 1 else "a moment"
        why = f"VM demand has been recorded for {known}; a forecast needs a full week"
    else:
        why = "the forecast was too high in recent days, so current demand is followed until the forecast is accurate again"
    begun = f"; {anew}, so learning started over" if anew else ""
    return replace(headroom, message=f"{headroom.message}; {why}{begun}")
