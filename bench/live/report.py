"""The table: every figure beside its goal, and beside what the other arms came to in the same run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.live.calls import TIMEOUT_SECONDS, percentile
from bench.live.fleet import Size
from bench.live.run import Figures, Schedule

GOAL_SIZE = Size(2_000, 8, 24_000)
"""The goals are for this size; other sizes have none."""
CALL_GOAL_S = 0.3


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    unit: str
    figures: tuple[float, ...]
    """One for each arm, smaller is better."""
    goal: float | None = None
    medians: tuple[float, ...] = ()
    """Shown in brackets."""


def rows(found: Sequence[Figures], schedule: Schedule) -> list[Row]:
    def row(title: str, unit: str, values: Sequence[float], goal: float | None = None) -> Row:
        return Row(title, unit, tuple(values), goal)

    rate = f"{schedule.rate:g} changes/s"

    def beginnings(share: float) -> list[float]:
        return [percentile(f.begin_s, share) for f in found]

    lines = [
        row("start → ready", "s", [f.ready_s for f in found]),
        row("start → leads", "s", [f.leads_s for f in found]),
        row("memory at rest, RSS", "MiB", [f.rest_mib for f in found]),
        row("memory, highest RSS", "MiB", [f.rss_mib for f in found], 300.0),
        row("memory, highest PSS", "MiB", [f.pss_mib for f in found]),
        row("CPU at rest", "cores", [f.rest_cores for f in found]),
        row(f"CPU at {rate}", "cores", [f.changes_cores for f in found], 0.25),
        row(f"CPU with a VM each {schedule.vm_seconds:g} s too", "cores", [f.moves_cores for f in found]),
        row("CPU with the page open instead", "cores", [f.open_cores for f in found]),
        row("VM created → move begun, p50", "s", beginnings(0.5)),
        row("VM created → move begun, p99", "s", beginnings(0.99), 1.0),
    ]
    for name in found[0].calls_s:
        title = f"{name}, p99 (p50)"
        medians = tuple(percentile(f.calls_s[name], 0.5) for f in found)
        slowest = tuple(percentile(f.calls_s[name], 0.99) for f in found)
        lines.append(Row(title, "s", slowest, CALL_GOAL_S, medians))
    sizes = [sum(f.open_bytes) / max(1, len(f.open_bytes)) / 1024 for f in found]
    return [*lines, row("page's stream, mean message", "KiB", sizes)]


def markdown(found: Mapping[str, Figures], size: Size, schedule: Schedule, measured_on: str) -> list[str]:
    """The section of docs/benchmarks.md. The first arm is ours; ratios are of the others to it."""
    arms, figures = list(found), list(found.values())
    others = arms[1:]
    goals = size == GOAL_SIZE
    titles = [*arms, *(["goal"] if goals else []), *(f"{name} / {arms[0]}" for name in others)]
    lines = [
        "## Manager: a large fleet, live",
        "",
        "    poolmgr bench live" + "".join(f" --other '{name}=CHECKOUT'" for name in others),
        "",
        f"`poolmgr manager` as a process on a real etcd and API server with {size.nodes:,} nodes of {size.gpus} GPUs and "
        f"{size.pods:,} pods: {size.nodes * size.vms_per_node:,} of VMs, {size.sharing:,} that share GPUs, "
        f"{size.waiting:,} that wait, the others without a GPU. Changes: pods are replaced by others, five writes each. "
        "VMs: each finds no GPU free and needs one moved; timed from the API server's answer to the user until a watch "
        "shows the move. Calls: one at a time, while the changes go on. What agents, kubelets, HAMi and virt-controller "
        "do is done by the benchmark, sooner than they would. API server, etcd and the benchmark run on the same cores.",
        "",
        "| | unit | " + " | ".join(titles) + " |",
        "|---|---|" + "---|" * len(titles),
    ]
    for row in rows(figures, schedule):
        medians = row.medians or (None,) * len(row.figures)
        cells = [_cell(*pair) for pair in zip(row.figures, medians, strict=True)]
        if goals:
            cells.append(_goal(row))
        cells += [f"{value / row.figures[0]:.1f}" if row.figures[0] else "" for value in row.figures[1:]]
        lines.append(f"| {row.title} | {row.unit} | " + " | ".join(cells) + " |")
    rates = ", ".join(f"{name} {f.changes_rate:.0f}/s" for name, f in found.items())
    lines += [
        "",
        f"Changes that the API server took: {rates}. VMs: {schedule.vms}, calls: {schedule.rounds} of each.",
    ]
    for name, f in found.items():
        if f.never_begun:
            lines += [
                "",
                f"{name}: for {f.never_begun} VM(s) no move began in time; they count with their wait.",
            ]
        if refused := ", ".join(f"{call} {times}×" for call, times in f.refused.items() if times):
            lines += ["", f"{name} refused, or did not answer within {TIMEOUT_SECONDS:.0f} s: {refused}."]
    return [*lines, "", f"{measured_on}."]


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    return f"≤ {row.goal:g}" if row.figures[0] <= row.goal else f"≤ {row.goal:g}, **not met**"


def _cell(value: float, median: float | None = None) -> str:
    shown = f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
    return shown if median is None else f"{shown} ({_cell(median)})"
