"""The forecast as a manager may use it: only where there is a past that speaks for this hour, and that has not
expected too much of late (`trust`). Elsewhere demand is followed as it comes (`following`), and the sentence says so.

A replay begins with weeks of history under a clock that never errs; a manager begins with nothing, on a pool of two
GPUs perhaps, and is handed whatever a database kept. What was remembered is taken only as far as it is understood
and lies in the past:

- what is no memory of ours, or damaged, is left aside and learning begins anew, with the reason in the sentence;
- the clock went back: what it had not reached yet is forgotten;
- nobody looked for more than a week: the whole weeks in which nobody looked are left out;
- GPUs that are not there at the moment keep their past for as long as it would count.
"""

from dataclasses import replace
from math import isfinite
from typing import Any

from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.accuracy import is_trusted
from poolmgr.planner.sizing.forecast import BIN_SECONDS, BINS_A_WEEK, KEPT_WEEKS, bin_of
from poolmgr.planner.sizing.forecast_sizer import ForecastSettings, ForecastSizer
from poolmgr.planner.sizing.headroom import Headroom, headroom_of
from poolmgr.planner.sizing.reactive import following

LAYOUT = 1
"""Of what is remembered. Raise it where an older memory would be misread: it is then left aside."""

SMALL_SHELF = 50
"""GPUs. On fewer, one that is kept ready for nobody in particular is more than the hundredth that it should be."""

MISREAD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a memory that only looks like ours may raise in the forecast."""


class LearningSizer:
    """`ForecastSizer` where its forecast can be believed, `following` elsewhere. Beside its configuration it holds the
    memory that it returned last, to recognise it: that one need not be examined again."""

    def __init__(self, settings: ForecastSettings | None = None) -> None:
        self._settings = replace(settings or ForecastSettings(), band_from_gpus=SMALL_SHELF)
        self._forecast = ForecastSizer(self._settings)
        self._own: Any = None

    def size(
        self, snapshot: ClusterSnapshot, stock: Inventory, memory: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        known, anew = memory, ""
        if memory is not None and memory is not self._own:
            known, anew = examined(memory)
        now_bin = bin_of(snapshot.taken_at)
        shelves, aside = _at_this_clock(known, snapshot.taken_at)
        try:
            forecast, remembered = self._forecast.size(snapshot, stock, {"shelves": shelves})
        except MISREAD as error:
            # Fail open: a manager that cannot read what it knew yesterday still serves whoever waits today.
            anew = f"what was remembered does not fit ({type(error).__name__})"
            shelves, aside = {}, {}
            forecast, remembered = self._forecast.size(snapshot, stock, {"shelves": {}})
        if not anew and known is not None:
            anew = known.get("anew", "")
        spares: dict[GroupKey, Headroom] = {}
        for key, spare in forecast.items():
            shelf, name = stock.shelves[key], "/".join(key)
            entry, before = remembered["shelves"][name], shelves.get(name, {})
            entry["trusted"] = trusted = _is_trusted(before, entry)
            if trusted:
                spares[key] = replace(spare, message=_as_on_earlier_days(shelf, spare))
                continue
            # VMs that wait because no forecast served them say nothing of how careful it has to be.
            entry["care"]["level"] = (before.get("care") or {}).get("level", self._settings.care_at_start)
            followed = following(shelf, entry["ledger"], self._settings)
            spares[key] = _because(followed, entry["ledger"], now_bin, anew)
        kept = {**aside, **remembered["shelves"]}
        self._own = {"layout": LAYOUT, "shelves": kept, **({"anew": anew} if anew else {})}
        return spares, self._own


def _is_trusted(before: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Judged anew every five minutes, as the forecast is made."""
    trusted = before.get("trusted") is not False
    if "trusted" in before and before.get("bin") == entry["bin"]:
        return trusted
    return is_trusted(trusted, entry["ledger"], entry["bin"])


def _as_on_earlier_days(shelf: GpuGroup, spare: Headroom) -> str:
    headroom, ready = headroom_of(shelf)
    if spare.fetch > headroom:
        return f"up to {spare.fetch} more GPU(s) may be wanted within minutes and {spare.keep} within hours, as on earlier days"
    if spare.keep > headroom:
        soon = f"up to {spare.keep} more GPU(s) may be wanted within hours, as on earlier days"
        return f"{ready}; {soon}" if headroom else soon
    return ready


def _because(spare: Headroom, ledger: dict[str, Any], now_bin: int, anew: str) -> Headroom:
    """With the reason why nothing is forecast."""
    bins = now_bin - int(ledger["first"])
    if not any(ledger["levels"]):
        why = "no VM has asked for one yet, so there is nothing to forecast"
    elif bins < BINS_A_WEEK:
        hours = bins * BIN_SECONDS / 3_600
        known = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} h" if hours >= 1 else "a moment"
        why = f"VM demand is known for {known}, and a forecast needs a whole week"
    else:
        why = "the forecast expected too much in the last days, so demand is followed until it is right again"
    begun = f"; {anew}, so learning began anew" if anew else ""
    return replace(spare, message=f"{spare.message}; {why}{begun}")


def examined(memory: Any) -> tuple[Any, str]:
    """The memory as far as it can be used, and what to say where it cannot. O(all that is remembered)."""
    if not isinstance(memory, dict) or not isinstance(memory.get("shelves"), dict):
        return None, "what was remembered is no forecast of this planner"
    if memory.get("layout", LAYOUT) != LAYOUT:
        return (
            None,
            f"what was remembered has layout {memory.get('layout')!r} and this planner reads {LAYOUT}",
        )
    # What the forecast can compute again is not taken from outside.
    whole = {
        name: {part: value for part, value in entry.items() if part not in ("bin", "ahead")}
        for name, entry in memory["shelves"].items()
        if _is_whole(entry)
    }
    lost = len(memory["shelves"]) - len(whole)
    said = f"what was remembered of {lost} kind(s) of GPU is damaged" if lost else memory.get("anew", "")
    return {"shelves": whole}, said if isinstance(said, str) else ""


def _is_whole(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("ledger"), dict):
        return False
    first, levels = entry["ledger"].get("first"), entry["ledger"].get("levels")
    if type(first) is not int or not isinstance(levels, list) or not levels:
        return False
    if not all(type(level) is int and 0 <= level <= MOST_GPUS for level in levels):
        return False
    care = entry.get("care")
    if care is None:
        return True
    return (
        isinstance(care, dict)
        and all(type(care.get(name)) in (int, float) and isfinite(care[name]) for name in ("level", "until"))
        and isinstance(care.get("late"), list)
        and all(isinstance(uid, str) for uid in care["late"])
    )


MOST_GPUS = 10_000_000
"""More than any cluster has: beyond this a number was not written by a planner."""


def _at_this_clock(known: Any, now: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is remembered of each shelf, as it counts now; and what to keep of those that are not there now."""
    shelves: dict[str, Any] = {}
    aside: dict[str, Any] = {}
    now_bin = bin_of(now)
    for name, entry in (known or {}).get("shelves", {}).items():
        ledger = _until(entry["ledger"], now_bin)
        if ledger is None:
            continue
        if now_bin - _last(ledger) <= KEPT_WEEKS * BINS_A_WEEK:
            aside[name] = {**entry, "ledger": ledger}
        shelves[name] = {**entry, "ledger": _without_whole_weeks(ledger, now_bin)}
        if entry.get("care") is not None:
            shelves[name]["care"] = {**entry["care"], "until": min(entry["care"]["until"], now)}
    return shelves, aside


def _last(ledger: dict[str, Any]) -> int:
    return int(ledger["first"]) + len(ledger["levels"]) - 1


def _until(ledger: dict[str, Any], now_bin: int) -> dict[str, Any] | None:
    """Without what lies in the future of a clock that went back; None where that is all."""
    ahead = _last(ledger) - now_bin
    if ahead <= 0:
        return ledger
    levels = ledger["levels"][:-ahead]
    return {"first": ledger["first"], "levels": levels} if levels else None


def _without_whole_weeks(ledger: dict[str, Any], now_bin: int) -> dict[str, Any]:
    """Brought nearer by the whole weeks in which nobody looked, so that hours and days of the week still fit."""
    weeks = (now_bin - _last(ledger) - 1) // BINS_A_WEEK
    return (
        ledger if weeks <= 0 else {"first": ledger["first"] + weeks * BINS_A_WEEK, "levels": ledger["levels"]}
    )
