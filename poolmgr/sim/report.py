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
        known = {**row, "ratio": row["goodput"] / row["bound"]}
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
    """One line a cluster size."""
    lines = [
        "| nodes | GPUs | pods | decision p50 s | max s | CPU s | peak MB | sentences |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gpus = row["nodes"] * row["gpus_per_node"]
        lines.append(
            f"| {row['nodes']:,} | {gpus:,} | {row['pods']:,} | {row['plan_s_p50']:.3f} | {row['plan_s_max']:.3f} "
            f"| {row['plan_cpu_s_p50']:.3f} | {row['peak_rss_mb']:.0f} | {row['refusals']:,} |"
        )
    return lines
