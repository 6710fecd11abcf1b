"""Pictures of comparisons. Needs matplotlib (`pip install -e '.[bench]'`)."""

import importlib.util
from pathlib import Path
from statistics import median
from typing import Any

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

PANELS = (
    ("vm_within_60s", "VMs with a GPU within 60 s"),
    ("goodput", "goodput (share of GPUs × time)"),
    ("flips_per_gpu_day", "flips per GPU and day"),
    ("evictions", "evictions"),
)


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def plot_comparison(rows: list[dict[str, Any]], path: Path) -> None:
    """One bar a policy (median of the seeds, whisker to the worst and best), one panel a figure."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise Rejected(
            Reason.NOT_FOUND,
            "plots need matplotlib; install it with: pip install -e '.[bench]' in the checkout",
        ) from error
    names = list(dict.fromkeys(row["policy"] for row in rows))
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(3.4 * len(PANELS), 3.2), constrained_layout=True)
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        values = [[row[key] for row in rows if row["policy"] == name] for name in names]
        middles = [median(v) for v in values]
        spread = [
            [m - min(v) for m, v in zip(middles, values, strict=True)],
            [max(v) - m for m, v in zip(middles, values, strict=True)],
        ]
        colours = ["#2f6f4f" if name == "poolmgr" else "#9aa5b1" for name in names]
        axis.bar(names, middles, yerr=spread, color=colours, ecolor="#444444", capsize=2)
        if key == "goodput":
            axis.axhline(median(row["bound"] for row in rows), color="#b03a2e", linestyle="--", linewidth=1)
            axis.set_xlabel("dashed: bound", fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="x", rotation=60, labelsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
