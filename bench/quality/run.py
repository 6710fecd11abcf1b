"""The quality benchmark: which scenarios run for how long under which policies, and what is written of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench.policies.catalog import POLICIES
from bench.quality.plots import can_plot, plot_comparison
from bench.quality.score import score
from bench.replay.state import ReplaySettings
from bench.scenarios.catalog import build
from bench.scenarios.workload import Ask
from bench.sections import commit, measured_on, write_section
from bench.tables import headline_table, quality_table

SPLIT = "held-out"
"""Settings are chosen on the other half of the session files."""
NO_STOP = "poolmgr-no-stop"
ALL = (*(name for name in POLICIES if name != NO_STOP), "B1")
"""Where no VM is forgotten, stopping none is the same."""
FIVE = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Case:
    scenario: str
    load: float
    days: int
    seeds: tuple[int, ...] = FIVE
    policies: tuple[str, ...] = ALL
    flip_seconds: float = 60.0


CASES = (
    Case("S2", 0.96, 7, policies=("poolmgr", "B4", "B5")),
    Case("S2", 0.96, 3),
    Case("S2", 0.68, 2),
    Case("H", 0.9, 2, policies=("poolmgr", "B0-vm", "B1", "B4", "B5", "B9")),
    Case("S1", 0.9, 1),
    Case("S3", 0.9, 1),
    Case("S4", 0.96, 1, policies=(*ALL, NO_STOP)),
    Case("S5", 0.9, 1),
    Case("S6", 0.9, 1),
    # Of the others none looks ahead but B11: a false forecast is nothing to them, and their rows are those of S2.
    Case("S8", 0.96, 7, policies=("poolmgr", "B4", "B5", "B11")),
    Case("S8", 0.68, 2, policies=("poolmgr", "B4", "B5", "B11")),
    Case("S2", 0.96, 1, policies=("poolmgr", "B4", "B5"), flip_seconds=10.0),
    Case("S2", 0.96, 1, policies=("poolmgr", "B4", "B5"), flip_seconds=300.0),
    Case("S7", 0.9, 1, seeds=(1,), policies=("poolmgr", "B6")),
)
QUICK = (Case("S2", 0.96, 1, seeds=(1,), policies=("poolmgr", "B4", "B5", "B0-vm")),)

COLUMNS = [
    "scenario",
    "load",
    "policy",
    "seed",
    "days",
    "flip_seconds",
    "vm_served",
    "vm_within_60s",
    "vm_wait_p99_s",
    "vm_lost",
    "goodput",
    "bound",
    "allocation",
    "flips_per_gpu_day",
    "evictions",
    "evicted_gpu_hours",
    "vm_kills",
    "pdb_violations",
    "idle_stops",
    "idle_held",
    "light_within_60s",
    "pod_wait_p90_s",
    "plan_ms_p50",
    "plan_ms_max",
    "gpus",
    "offered",
    "period",
    "commit",
    "desktops_per_card",
    "card_per_desktop_utilisation",
]
_KEY = ("scenario", "load", "days", "flip_seconds", "policy", "seed")


def run(
    data: Path,
    cases: tuple[Case, ...],
    report: Path,
    *,
    only_policies: tuple[str, ...] = (),
    only_scenarios: tuple[str, ...] = (),
    keep_rows: bool = True,
    resume: bool = False,
) -> None:
    """Run the cases and write the report's sections, beside it its rows and pictures. With `resume`, rows that the
    file has from this very version are not run again."""
    store = report.parent / "benchmarks" / "quality.jsonl"
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    if keep_rows and store.exists():
        for line in store.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[tuple(row[key] for key in _KEY)] = row
    version = commit()
    known = {key for key, row in rows.items() if resume and row["commit"] == version}
    todo = [
        (case, seed, name)
        for case in cases
        for seed in case.seeds
        for name in case.policies
        if (not only_policies or name in only_policies)
        and (not only_scenarios or case.scenario in only_scenarios)
        and (case.scenario, case.load, case.days, case.flip_seconds, name, seed) not in known
    ]
    built: tuple[Any, Any] = (None, None)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=len(todo))
        for case, seed, name in todo:
            label = f"{case.scenario} {case.load} seed {seed}"
            progress.update(task, description=f"{label} {name}")
            ask = Ask(data, case.load, seed, SPLIT, case.days)
            if built[0] != (case.scenario, ask):
                built = ((case.scenario, ask), build(case.scenario, ask))
            settings = ReplaySettings(tick_seconds=15.0, flip_seconds=case.flip_seconds)
            full = {**score(built[1], name, settings, SPLIT), "days": case.days, "commit": version}
            row = {key: full[key] for key in COLUMNS if key in full}
            rows[tuple(row[key] for key in _KEY)] = row
            progress.advance(task)
            if keep_rows:
                store.parent.mkdir(parents=True, exist_ok=True)
                lines = (
                    json.dumps(_short(known)) for _, known in sorted(rows.items(), key=lambda r: str(r[0]))
                )
                store.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write(report, cases, list(rows.values()))


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def of_case(rows: list[dict[str, Any]], case: Case) -> list[dict[str, Any]]:
    """The case's rows in the order of its policies."""
    mine = [
        row
        for row in rows
        if (row["scenario"], row["load"], row["days"], row["flip_seconds"])
        == (case.scenario, case.load, case.days, case.flip_seconds)
        and row["policy"] in case.policies
    ]
    return sorted(mine, key=lambda row: (case.policies.index(row["policy"]), row["seed"]))


def write(report: Path, cases: tuple[Case, ...], rows: list[dict[str, Any]]) -> None:
    body = [
        "## Planner: quality",
        "",
        "    poolmgr bench quality --data DIR",
        "",
        f"Weeks of the {SPLIT} half of the session files, windows from Monday on. Median of the seeds, in "
        "brackets the worst. Shares are of GPUs × time. `of bound` is goodput over what nobody could exceed. "
        "`poolmgr simulate --list` says what the policies and scenarios are.",
    ]
    images = report.parent / "images"
    for case in cases:
        mine = of_case(rows, case)
        if not mine:
            continue
        title = f"{case.scenario} at load {case.load}, {mine[0]['gpus']} GPUs, {case.days} day(s)"
        title += "" if case.flip_seconds == 60.0 else f", a move takes {case.flip_seconds:.0f} s"
        body += ["", f"### {title}", "", *quality_table(mine)]
        if can_plot() and len({row["policy"] for row in mine}) > 4:
            images.mkdir(exist_ok=True)
            name = f"bench-{case.scenario}-{case.load:g}-{case.days}d.svg"
            plot_comparison(mine, images / name)
            body += ["", f"![{title}](images/{name})"]
    versions = sorted({row["commit"] for row in rows})
    body += [
        "",
        *missing(rows, cases),
        *bars(rows, cases),
        "",
        f"Tables made on {measured_on()}; rows from {', '.join(versions)}.",
    ]
    write_section(report, "quality", "\n".join(body))
    story = [row for case in cases if case.scenario == "H" for row in of_case(rows, case)]
    if story:
        lines = [
            "## The headline: from a card for each desktop to three desktops a card",
            "",
            "The same 176 cards. Before: each desktop owns a card. After (scenario H): three times the desktops, 30 % of "
            "them VMs on whole cards and the others containers on a quarter of one, and batch containers on what is "
            "left. What this does not show is in [explanation/simulation.md](explanation/simulation.md).",
            "",
            *headline_table(story),
        ]
        write_section(report, "headline", "\n".join(lines))


def missing(rows: list[dict[str, Any]], cases: tuple[Case, ...]) -> list[str]:
    """What the report should hold and does not: a table that is silent on it would look complete."""
    lines = []
    for case in cases:
        there = {(row["policy"], row["seed"]) for row in of_case(rows, case)}
        lacking = [name for name in case.policies if any((name, seed) not in there for seed in case.seeds)]
        if lacking:
            names = "every policy" if len(lacking) == len(case.policies) and not there else ", ".join(lacking)
            lines.append(
                f"- {case.scenario} at {case.load}, {case.days} day(s), moves of {case.flip_seconds:.0f} s: {names}"
            )
    return ["### Not measured with all seeds yet", "", *lines, ""] if lines else []


def bars(rows: list[dict[str, Any]], cases: tuple[Case, ...]) -> list[str]:
    """The goals, each with the worst seed that was measured."""
    lines = ["### Goals", "", "| goal | median | worst seed | holds |", "|---|---|---|---|"]

    def add(text: str, values: list[float], limit: float, *, most: bool = False) -> None:
        if values:
            worst = max(values) if most else min(values)
            middle = median(values)
            good = [v <= limit if most else v >= limit for v in (middle, worst)]
            verdict = "yes" if all(good) else "median only" if good[0] else "no"
            lines.append(f"| {text} | {middle:.3f} | {worst:.3f} | {verdict} |")

    for load, share in ((0.96, 0.90), (0.68, 0.97)):
        able = [c for c in cases if (c.scenario, c.load, c.flip_seconds) == ("S2", load, 60.0)]
        able = [c for c in able if of_case(rows, c)]
        if not able:
            continue
        case = max(able, key=lambda c: c.days)
        mine = {name: [r for r in of_case(rows, case) if r["policy"] == name] for name in ("poolmgr", "B5")}
        ours, b5 = mine["poolmgr"], {r["seed"]: r for r in mine["B5"]}
        add(f"S2 {load}, {case.days} day(s): VM served ≥ .99", [r["vm_served"] for r in ours], 0.99)
        add(f"S2 {load}, {case.days} day(s): VMs within 60 s ≥ .95", [r["vm_within_60s"] for r in ours], 0.95)
        add(
            f"S2 {load}, {case.days} day(s): goodput ≥ {share} of bound",
            [r["goodput"] / r["bound"] for r in ours],
            share,
        )
        add(
            f"S2 {load}, {case.days} day(s): flips per GPU and day ≤ 2",
            [r["flips_per_gpu_day"] for r in ours],
            2.0,
            most=True,
        )
        pairs = [(r, b5[r["seed"]]) for r in ours if r["seed"] in b5]
        flips = [a["flips_per_gpu_day"] / max(b["flips_per_gpu_day"], 1e-9) for a, b in pairs]
        add(f"S2 {load}, {case.days} day(s): flips ≤ 0.4 × B5", flips, 0.4, most=True)
        evicted = [a["evictions"] / max(b["evictions"], 1) for a, b in pairs]
        add(f"S2 {load}, {case.days} day(s): evictions ≤ 0.15 × B5", evicted, 0.15, most=True)
    steady = [r for r in rows if (r["scenario"], r["policy"]) == ("S1", "poolmgr")]
    add("S1: flips per GPU and day ≤ .05", [r["flips_per_gpu_day"] for r in steady], 0.05, most=True)
    for case in cases:
        wrong = {(r["policy"], r["seed"]): r["goodput"] for r in of_case(rows, case) if case.scenario == "S8"}
        ratio = [g / wrong["B4", s] for (p, s), g in wrong.items() if p == "poolmgr" and ("B4", s) in wrong]
        add(f"S8 {case.load}, {case.days} day(s) (false forecast): goodput ≥ B4's", ratio, 1.0)
    add("VMs killed: 0", [float(r["vm_kills"]) for r in rows if r["policy"] == "poolmgr"], 0.0, most=True)
    return lines
