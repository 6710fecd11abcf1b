"""The comparison as a table. Every row says whether libhook is ahead; where it is not, why not."""

from collections.abc import Sequence

from poolmgr.hookbench.rows import Row

OURS = "libhook"
NOISE = {"ns": 2.0, "ms": 1.0, "points": 0.2, "MiB": 0.0, "MiB left": 0.0}
"""Differences below these are called equal: the clock's grain, and what a busy machine does to a start."""
REASONS = {
    "launch, GPU-time limit of 50 % too": "libhook measures what each launch costs the GPU (a lock of the stream, two "
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


def markdown(rows: Sequence[Row], arms: Sequence[str], refused: dict[str, str], machine: str) -> list[str]:
    """`arms` in their order, without those of `refused` (name → what was seen instead of a limit)."""
    others = [name for name in arms if name not in (OURS, "no hook")]
    lines = [
        "## libhook beside other hooks",
        "",
        f"    poolmgr bench hook {' '.join(f'--other {n}=PATH' for n in [*others, *refused])}".rstrip(),
        "",
        f"{machine} On the fake driver, **not on a real GPU**: what a launch, NVML or a context costs there is left out, "
        "on both sides. Every arm runs the same programs in the same run and is first shown to hold its limits. "
        "Calls: what the hook adds to them, medians. Share errors: points of GPU time, by the fake machine's own count, "
        "on its virtual clock. Smaller is better everywhere.",
        "",
        "| | unit | "
        + " | ".join(arms)
        + " | "
        + " | ".join(f"libhook against {n}" for n in others)
        + (" | |" if others else "|"),
        "|---|---|" + "---|" * (len(arms) + len(others) + (1 if others else 0)),
    ]
    for row in rows:
        cells = [cell(row.figures.get(name)) for name in arms]
        words = [verdict(row, name) for name in others]
        lines.append(f"| {row.title} | {row.unit} | " + " | ".join([*cells, *words, row.note]) + " |")
    for name, seen in refused.items():
        lines += ["", f"{name} is not in the table: {seen}."]
    return lines
