"""The comparison's table: every row says whether libhook is ahead, and where not, why."""

from bench.hook.report import OURS, REASONS, figures, markdown, verdict
from bench.hook.rows import Row


def row(
    ours: float | str | None, theirs: float | str | None, *, unit: str = "ns", title: str = "a row"
) -> Row:
    figures = {name: value for name, value in ((OURS, ours), ("other", theirs)) if value is not None}
    return Row(title, unit, figures)


def test_ahead_says_by_how_much() -> None:
    assert verdict(row(10, 30), "other") == "ahead, 3.0×"
    assert verdict(row(0, 55, unit="points"), "other") == "ahead"


def test_differences_within_the_noise_are_equal() -> None:
    assert verdict(row(28, 27), "other") == "equal"
    assert verdict(row(0, 0, unit="MiB"), "other") == "equal"


def test_a_row_that_is_lost_says_why() -> None:
    title = "launch, GPU-time limit of 50 % too"
    assert verdict(row(40, 20, title=title), "other") == "not ahead: " + REASONS[title]
    assert "look into it" in verdict(row(40, 20), "other")


def test_an_arm_without_a_figure_never_looks_better() -> None:
    assert verdict(row("hangs", 20), "other").startswith("not ahead")
    assert verdict(row(40, "hangs"), "other") == "ahead: it has none"


def test_the_table_names_arms_left_out_with_the_reason() -> None:
    lines = markdown(
        [row(1, 2)], ["no hook", OURS, "other"], {"inert": "no memory limit in force"}, "2 cores."
    )
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {8}
    assert "inert is not in the table: no memory limit in force." in lines


def test_reasons_stand_once_below_the_table() -> None:
    lines = markdown([row(40, 20), row(50, 20)], ["no hook", OURS, "other"], {}, [])
    assert sum("**not ahead** (1)" in line for line in lines) == 2
    assert sum(line.startswith("(1) ") for line in lines) == 1


def test_a_row_can_be_told_before_the_table() -> None:
    assert figures(row(1.25, "hangs: ended after 60 s", unit="ms")) == (
        "a row (ms): libhook 1.2, other hangs: ended after 60 s"
    )
