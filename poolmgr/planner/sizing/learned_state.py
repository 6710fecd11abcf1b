"""What the forecast has learned, as it is kept over a restart: read only as far as it is understood and lies in the past.

- What is no learned state of ours, or damaged, is left aside and learning begins anew, with the reason in the sentence.
- The clock went back: what it had not reached yet is forgotten.
- Nobody looked for more than a week: the whole weeks in which nobody looked are left out.
- GPUs that are not there at the moment keep their past for as long as it would count.

Layout 2: {"layout": 2, "groups": {"POOL/MODEL": {"history": {"first", "levels"}, "risk_aversion": {"level", "until",
"late"}, "bin", "ahead", "accurate"}}, "anew"?}.
"""

from math import isfinite
from typing import Any

from poolmgr.planner.sizing.forecast import BINS_A_WEEK, HISTORY_WEEKS, bin_of

LAYOUT = 2
"""Raise it where an older one would be misread: it is then left aside, or read by its own rule."""

NAMES_OF_LAYOUT_1 = {
    "shelves": "groups",
    "ledger": "history",
    "care": "risk_aversion",
    "trusted": "accurate",
}
"""Layout 1 differs in these names alone."""

MOST_GPUS = 10_000_000
"""More than any cluster has: beyond this a number was not written by a planner."""


def examined(state: Any) -> tuple[Any, str]:
    """The learned state as far as it can be used, and what to say where it cannot. O(all that is learned)."""
    if isinstance(state, dict) and "shelves" in state and state.get("layout", 1) == 1:
        state = _from_layout_1(state)
    if not isinstance(state, dict) or not isinstance(state.get("groups"), dict):
        return None, "the saved demand history was not written by this planner"
    if state.get("layout", LAYOUT) != LAYOUT:
        return (
            None,
            f"the saved demand history has layout {state.get('layout')!r}, but this planner reads {LAYOUT}",
        )
    # What the forecast can compute again is not taken from outside.
    whole = {
        name: {part: value for part, value in entry.items() if part not in ("bin", "ahead")}
        for name, entry in state["groups"].items()
        if _is_whole(entry)
    }
    lost = len(state["groups"]) - len(whole)
    said = f"the saved demand history of {lost} GPU model(s) is damaged" if lost else state.get("anew", "")
    return {"groups": whole}, said if isinstance(said, str) else ""


def _from_layout_1(state: dict[str, Any]) -> dict[str, Any]:
    def renamed(part: dict[str, Any]) -> dict[str, Any]:
        return {NAMES_OF_LAYOUT_1.get(name, name): value for name, value in part.items()}

    known = renamed({name: value for name, value in state.items() if name != "layout"})
    if isinstance(known["groups"], dict):
        known["groups"] = {
            name: renamed(entry) if isinstance(entry, dict) else entry
            for name, entry in known["groups"].items()
        }
    return known


def _is_whole(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("history"), dict):
        return False
    first, levels = entry["history"].get("first"), entry["history"].get("levels")
    if type(first) is not int or not isinstance(levels, list) or not levels:
        return False
    if not all(type(level) is int and 0 <= level <= MOST_GPUS for level in levels):
        return False
    aversion = entry.get("risk_aversion")
    if aversion is None:
        return True
    return (
        isinstance(aversion, dict)
        and all(
            type(aversion.get(name)) in (int, float) and isfinite(aversion[name])
            for name in ("level", "until")
        )
        and isinstance(aversion.get("late"), list)
        and all(isinstance(uid, str) for uid in aversion["late"])
    )


def at_this_clock(known: Any, now: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is learned of each group, as it counts now; and what to keep of those that are not there now."""
    groups: dict[str, Any] = {}
    aside: dict[str, Any] = {}
    now_bin = bin_of(now)
    for name, entry in (known or {}).get("groups", {}).items():
        history = _until(entry["history"], now_bin)
        if history is None:
            continue
        if now_bin - _last(history) <= HISTORY_WEEKS * BINS_A_WEEK:
            aside[name] = {**entry, "history": history}
        groups[name] = {**entry, "history": _without_whole_weeks(history, now_bin)}
        aversion = entry.get("risk_aversion")
        if aversion is not None:
            groups[name]["risk_aversion"] = {**aversion, "until": min(aversion["until"], now)}
    return groups, aside


def _last(history: dict[str, Any]) -> int:
    return int(history["first"]) + len(history["levels"]) - 1


def _until(history: dict[str, Any], now_bin: int) -> dict[str, Any] | None:
    """Without what lies in the future of a clock that went back; None where that is all."""
    ahead = _last(history) - now_bin
    if ahead <= 0:
        return history
    levels = history["levels"][:-ahead]
    return {"first": history["first"], "levels": levels} if levels else None


def _without_whole_weeks(history: dict[str, Any], now_bin: int) -> dict[str, Any]:
    """Brought nearer by the whole weeks in which nobody looked, so that hours and days of the week still fit."""
    weeks = (now_bin - _last(history) - 1) // BINS_A_WEEK
    if weeks <= 0:
        return history
    return {"first": history["first"] + weeks * BINS_A_WEEK, "levels": history["levels"]}
