"""`docs/benchmarks.md`: what was measured, by which command, in tables."""

from statistics import median
from typing import Any

COLUMNS = (
    ("VM served", "vm_served", "{:.4f}", False),
    ("within 60 s", "vm_within_60s", "{:.3f}", False),
    ("goodput", "goodput", "{:.3f}", False),
    ("of bound", "ratio", "{:.3f}", False),
    ("allocated", "allocation", "{:.3f}", False),
    ("flips/GPU/day", "flips_per_gpu_day", "{:.2f}", True),
    ("evictions", "evictions", "{:.0f}", True),
    ("evicted GPU-h", "evicted_gpu_hours", "{:.0f}", True),
    ("container wait p90, h", "wait_hours", "{:.1f}", True),
)
"""(title, field, format, whether more is worse)."""


def quality_table(rows: list[dict[str, Any]]) -> list[str]:
    """Median and, in brackets, worst of the seeds, one line a scenario, load and policy."""
    lines = [
        "| scenario | load | policy | seeds | " + " | ".join(title for title, *_ in COLUMNS) + " |",
        "|---" * (4 + len(COLUMNS)) + "|",
    ]
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for row in rows:
        known = {**row, "ratio": row["goodput"] / row["bound"], "wait_hours": row["pod_wait_p90_s"] / 3_600}
        groups.setdefault((row["scenario"], row["load"], row["policy"]), []).append(known)
    for (scenario, load, policy), members in groups.items():
        cells = []
        for _, key, form, more_is_worse in COLUMNS:
            values = [member[key] for member in members]
            worst = max(values) if more_is_worse else min(values)
            text = form.format(median(values))
            cells.append(text if len(values) == 1 else f"{text} ({form.format(worst)})")
        lines.append(f"| {scenario} | {load} | {policy} | {len(members)} | " + " | ".join(cells) + " |")
    return lines


def scale_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line a fleet; the last column is seconds for a million of GPUs and pods, flat where growth is linear."""
    lines = [
        "| fleet | nodes | GPUs | pods | snapshot s | decision p50 s | max s | CPU s | peak MB | sentences | s per million |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        each = 1e6 * row["plan_cpu_s_p50"] / (row["gpus"] + row["pods"])
        lines.append(
            f"| {row['fleet']} | {row['nodes']:,} | {row['gpus']:,} | {row['pods']:,} | {row['snapshot_build_s']:.2f} "
            f"| {row['plan_s_p50']:.3f} | {row['plan_s_max']:.3f} | {row['plan_cpu_s_p50']:.3f} "
            f"| {row['peak_rss_mb']:.0f} | {row['refusals']:,} | {each:.2f} |"
        )
    return lines


def headline_table(rows: list[dict[str, Any]]) -> list[str]:
    """Before and after of scenario H, median and worst of the seeds."""
    before = [row["card_per_desktop_utilisation"] for row in rows]
    lines = [
        "| | seeds | desktops a card | cards' time in use | goodput | bound | VM served | VM ≤ 60 s | container desktop ≤ 60 s |",
        "|---" * 9 + "|",
        f"| a card for each desktop | | 1.0 | {median(before):.3f} | {median(before):.3f} | | 1 | 1 | 1 |",
    ]
    names = list(dict.fromkeys(row["policy"] for row in rows))
    for name in names:
        mine = [row for row in rows if row["policy"] == name]

        def said(key: str, form: str = "{:.3f}", mine: list[dict[str, Any]] = mine) -> str:
            values = [row[key] for row in mine]
            return f"{form.format(median(values))} ({form.format(min(values))})"

        lines.append(
            f"| {name} | {len(mine)} | {mine[0]['desktops_per_card']:.1f} | {said('allocation')} | {said('goodput')} "
            f"| {median(row['bound'] for row in mine):.3f} | {said('vm_served')} | {said('vm_within_60s')} "
            f"| {said('light_within_60s')} |"
        )
    return lines


def fgd_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| pods | policy | here | published | difference | seeds |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['pods']} | {row['policy']} | {row['allocated']:.2f} | {row['published']:.2f} "
            f"| {row['allocated'] - row['published']:+.2f} | {row['seeds']} |"
        )
    return lines
