"""The table: every figure beside the others' of the same run, and the goals beside HAMi's. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.webhook.run import Case, Figures

P99_GOAL = 0.5
"""Of HAMi's, at most."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    unit: str
    figures: tuple[float, ...]
    """One for each webhook."""
    digits: int
    goal: float | None = None
    """Of HAMi's figure, at most; smaller is better."""


def rows(case: Case, found: Sequence[Figures]) -> list[Row]:
    return [
        Row("requests", "per s", tuple(f.per_second for f in found), 0),
        Row("p50", "ms", tuple(f.p50_ms for f in found), 2),
        Row("p99", "ms", tuple(f.p99_ms for f in found), 2, P99_GOAL),
        Row("CPU for 1,000", "s", tuple(f.cpu_per_thousand for f in found), 3, case.body.cpu_goal),
    ]


def markdown(
    found: Mapping[Case, Mapping[str, Figures]], others: Sequence[str], judge: str, head: Sequence[str]
) -> list[str]:
    """`others` beside the first arm, whose figures are divided by theirs; the goals are for what is `judge`'s. `head`
    stands above the table."""
    names = list(next(iter(found.values())))
    titles = [*names, *(f"against {name}" for name in others), *(["goal"] if judge else [])]
    lines = [*head, "", "| review | connections | | unit | " + " | ".join(titles) + " |"]
    lines.append("|---" * (4 + len(titles)) + "|")
    for case, by_name in found.items():
        for row in rows(case, list(by_name.values())):
            ours = row.figures[0]
            cells = [f"{figure:,.{row.digits}f}" for figure in row.figures]
            cells += [f"{ours / row.figures[names.index(name)]:.2f}" for name in others]
            if judge:
                cells.append(_goal(row, ours / row.figures[names.index(judge)]))
            lines.append(
                f"| {case.body.title} | {case.connections} | {row.title} | {row.unit} | {' | '.join(cells)} |"
            )
    return lines


def _goal(row: Row, ratio: float) -> str:
    if row.goal is None:
        return ""
    return f"≤ {row.goal:.2f}" if ratio <= row.goal else f"**≤ {row.goal:.2f}, not met**"
