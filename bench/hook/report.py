"""The comparison as a table. Every row says whether libhook is ahead; where it is not, why not."""

from collections.abc import Sequence

from bench.hook.rows import TIMED_LAUNCH, Row

OURS = "libhook"
NOISE = {"ns": 2.0, "instructions": 0.0, "ms": 1.0, "points": 1.0, "MiB": 0.0, "MiB left": 0.0}
"""Differences below these are called equal: the clock's grain, and what a busy machine does to a start."""
REASONS = {
    TIMED_LAUNCH: "libhook measures what each launch costs the GPU (a lock of the stream, two "
    "events per batch); HAMi-core subtracts the number of blocks from a counter, and the share errors below are its price",
}
"""Why libhook is not ahead, by row; shown only where it is not."""


def verdict(row: Row, other: str) -> str:
    """One or two words, or the reason why libhook is not ahead of `other` in this row."""
    ours, theirs = row.figures.get(OURS), row.figures.get(other)
    if isinstance(ours, str) or ours is None:
        return "not ahead: libhook has no figure"
    if isinstance(theirs, str) or theirs is None:
        return "ahead: it has none"
    if abs(ours - theirs) <= NOISE[row.unit]:
        return "equal"
    if ours < theirs:
        return f"ahead, {theirs / ours:.1f}×" if ours > NOISE[row.unit] else "ahead"
    return "not ahead: " + REASONS.get(row.title, "no reason known, look into it")


def cell(value: float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def figures(row: Row) -> str:
    """The row in a line of text."""
    said = ", ".join(f"{name} {cell(figure)}" for name, figure in row.figures.items())
    return f"{row.title} ({row.unit}): {said}"


def markdown(
    rows: Sequence[Row], arms: Sequence[str], refused: dict[str, str], head: Sequence[str]
) -> list[str]:
    """`arms` in their order, without those of `refused` (name → what was seen instead of a limit); `head` is
    what stands above the table. Reasons are given once below it, by number."""
    others = [name for name in arms if name not in (OURS, "no hook")]
    titles = [*arms, *(f"libhook against {name}" for name in others), ""]
    lines = [*head, "", "| | unit | " + " | ".join(titles) + " |", "|---|---|" + "---|" * len(titles)]
    reasons: list[str] = []
    for row in rows:
        cells = [cell(row.figures.get(name)) for name in arms]
        for name in others:
            word, colon, reason = verdict(row, name).partition("not ahead: ")
            if colon and reason not in reasons:
                reasons.append(reason)
            cells.append(f"**not ahead** ({reasons.index(reason) + 1})" if colon else word)
        lines.append(f"| {row.title} | {row.unit} | " + " | ".join([*cells, row.note]) + " |")
    if reasons:
        lines += ["", *(f"({number}) {reason}." for number, reason in enumerate(reasons, 1))]
    for name, seen in refused.items():
        lines += ["", f"{name} is not in the table: {seen}."]
    return lines
