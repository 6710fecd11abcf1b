"""The table divides our figures by the others' and says where a goal is not met."""

from bench.webhook.bodies import LAUNCHER, VGPU, bodies
from bench.webhook.load import Load
from bench.webhook.report import markdown
from bench.webhook.run import Case, Figures

OURS, HAMI = "poolmgr", "HAMi 2.10.0"


def case(key: str = VGPU, connections: int = 16) -> Case:
    return Case(bodies()[key], connections)


def figures(*, per_second: float = 5000, p50: float = 2, p99: float = 4, cpu: float = 0.2) -> Figures:
    return Figures(per_second, p50, p99, cpu)


def row(lines: list[str], title: str) -> list[str]:
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if f"| {title} |" in line)


def test_figures_stand_beside_each_other_with_their_ratio() -> None:
    found = {case(): {OURS: figures(per_second=5000), HAMI: figures(per_second=2500)}}
    assert row(markdown(found, [HAMI], HAMI, ["# head"]), "requests") == [
        *("vGPU pod, 2 KB", "16", "requests", "per s", "5,000", "2,500", "2.00", "")
    ]


def test_a_goal_is_met_at_half_of_hamis_p99_and_not_above() -> None:
    for p99, goal in ((2.0, "≤ 0.50"), (2.1, "**≤ 0.50, not met**")):
        found = {case(): {OURS: figures(p99=p99), HAMI: figures(p99=4)}}
        assert row(markdown(found, [HAMI], HAMI, []), "p99")[-1] == goal


def test_launchers_have_to_cost_a_third_less() -> None:
    for cpu, goal in ((0.13, "≤ 0.67"), (0.14, "**≤ 0.67, not met**")):
        found = {case(LAUNCHER): {OURS: figures(cpu=cpu), HAMI: figures(cpu=0.2)}}
        assert row(markdown(found, [HAMI], HAMI, []), "CPU for 1,000")[-1] == goal


def test_without_hami_there_are_ratios_and_no_goals() -> None:
    found = {case(): {OURS: figures(), "poolmgr 4dde115": figures(per_second=1000)}}
    lines = markdown(found, ["poolmgr 4dde115"], "", [])
    assert row(lines, "requests")[-1] == "5.00"
    assert "goal" not in "".join(lines)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    loads = [Load(1000, 1.0, 1.0, p99, 0.2) for p99 in (9.0, 1.0, 2.0)]
    assert Figures.of(loads) == Figures(1000, 1.0, 2.0, 0.2)
