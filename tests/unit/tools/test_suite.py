"""The suite's runner: what starts when, and what it says at the end."""

from pathlib import Path

import pytest

from tools.suite.outcome import Outcome, closing_line, read_report, summary
from tools.suite.schedule import next_tiers
from tools.suite.tiers import GROUPS, Tier, tiers

REPORT = """<testsuites><testsuite>
<properties><property name="real" value="etcd 3.6"/><property name="stand-in" value="NVML"/></properties>
<testcase classname="tests.a" name="quick" time="0.1"/>
<testcase classname="tests.a" name="slow" time="9.5"/>
<testcase classname="tests.a" name="wrong" time="0"><failure message="no"/></testcase>
<testcase classname="tests.a" name="broken" time="0"><error message="no"/></testcase>
<testcase classname="tests.a" name="left" time="0"><skipped message="no  HAMi: x"/></testcase>
<testcase classname="tests.a" name="out" time="0"><skipped message="no HAMi: x"/></testcase>
</testsuite></testsuites>"""


def tier(name: str, *after: str) -> Tier:
    return Tier(name, "", ("true",), after=after)


def started(waiting: list[Tier], running: list[str], over: list[str], lanes: int = 2) -> list[str]:
    names = [*(t.name for t in waiting), *running, *over]
    return [t.name for t in next_tiers(waiting, running, over, names, lanes)]


def test_tiers_start_in_order_as_long_as_a_lane_is_free() -> None:
    assert started([tier("a"), tier("b"), tier("c")], [], []) == ["a", "b"]
    assert started([tier("b"), tier("c")], ["a"], []) == ["b"]
    assert started([tier("c")], ["a", "b"], []) == []


def test_a_tier_waits_for_another_and_lets_those_behind_it_pass() -> None:
    assert started([tier("a", "z"), tier("b")], ["z"], []) == ["b"]
    assert started([tier("a", "z"), tier("b")], [], ["z"]) == ["a", "b"]


def test_what_was_not_asked_for_is_not_waited_for() -> None:
    assert [t.name for t in next_tiers([tier("a", "z")], [], [], ["a"], 1)] == ["a"]


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_comes_to_its_end(group: str) -> None:
    known = tiers(1)
    waiting, over = [known[name] for name in GROUPS[group]], list[str]()
    while waiting:
        now = next_tiers(waiting, [], over, GROUPS[group], 2)
        assert now, f"{[t.name for t in waiting]} wait for each other"
        for one in now:
            waiting.remove(one)
            over.append(one.name)


def report(tmp_path: Path, status: int = 1) -> Outcome:
    (tmp_path / "r.xml").write_text(REPORT)
    found = Outcome("x", status, 12.0, 20.0)
    read_report(found, tmp_path / "r.xml")
    return found


def test_report_is_counted_with_skips_grouped_by_reason(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert (found.passed, found.failed, found.errors) == (2, 1, 1)
    assert found.skipped == {"no HAMi: x": 2}
    text = "\n".join(summary([found], {"x": "something"}, slowest=1))
    assert "9.5  x         tests/a::slow" in text
    assert "tests/a::quick" not in text
    assert "2  x         no HAMi: x" in text
    assert "proven on real parts: etcd 3.6" in text
    assert "proven on stand-ins: NVML" in text


def test_closing_line_counts_no_sixtieth_second() -> None:
    assert closing_line([], 119.7).endswith("in 119.70s (2:00) ====")


def test_closing_line_is_pytests(tmp_path: Path) -> None:
    assert closing_line([report(tmp_path)], 75.5) == (
        "==== 1 failed, 2 passed, 2 skipped, 1 errors in 75.50s (1:16) ===="
    )
    assert closing_line([], 0.0).startswith("==== 0 passed in 0.00s")


def test_closing_line_says_which_hami_the_tiers_were_on(tmp_path: Path) -> None:
    ours, other = "HAMi 2.8.3 (stand-in of this project; not HAMi)", "HAMi 2.10.0 (real, from /parts)"
    named = "".join(f'<property name="hami" value="{one}"/>' for one in (ours, other))
    (tmp_path / "r.xml").write_text(
        f"<testsuites><testsuite><properties>{named}</properties></testsuite></testsuites>"
    )
    found = [Outcome(tier, 0, 1.0, 1.0) for tier in ("story", "plane")]
    for one in found:
        read_report(one, tmp_path / "r.xml")
    assert closing_line(found, 1.0) == f"==== 0 passed in 1.00s (0:01), on {other}, {ours} ===="


@pytest.mark.parametrize(("status", "counts"), [(0, (1, 0, 0)), (2, (0, 1, 0))])
def test_a_command_without_a_report_is_one_test(
    tmp_path: Path, status: int, counts: tuple[int, int, int]
) -> None:
    found = Outcome("lint", status, 1.0, 1.0)
    read_report(found, tmp_path / "none.xml")
    assert (found.passed, found.failed, found.errors) == counts


def test_a_tier_that_breaks_outside_its_tests_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(
        "<testsuites><testsuite><testcase name='a' time='0'/></testsuite></testsuites>"
    )
    found = Outcome("x", 4, 1.0, 1.0)
    read_report(found, tmp_path / "r.xml")
    assert (found.passed, found.errors) == (1, 1)


def test_a_tier_in_which_everything_was_skipped_is_not_called_passed() -> None:
    nothing = Outcome("story", 0, 1.0, 1.0)
    nothing.skipped["no HAMi"] = 8
    assert nothing.result == "skipped"
    assert Outcome("lint", 0, 1.0, 1.0, passed=1).result == "passed"
    assert Outcome("lint", 1, 1.0, 1.0).result == "FAILED"
