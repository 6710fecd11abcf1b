"""The table sets a move's steps beside the shell's, and says whether the whole stays within the goal."""

import pytest

from bench.move.report import markdown, ratio
from bench.move.run import Move, medians
from poolmgr.domain.modes import Mode

SHELL = {mode: {"driver_override": 2.0, "unbind": 10.0, "drivers_probe": 8.0, "move": 20.0} for mode in Mode}


def agent(whole: float) -> dict[Mode, dict[str, float]]:
    steps = {"driver_override": 3.0, "unbind": 11.0, "drivers_probe": 8.0, "holders": 1.0, "move": whole}
    return dict.fromkeys(Mode, steps)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_each_step_stands_beside_the_shells_and_the_rest_is_what_no_step_took() -> None:
    lines = [cells(line) for line in markdown(agent(25.0), SHELL, []) if "shared → passthrough" in line]
    assert [line[1:] for line in lines] == [
        ["reserve (`driver_override`)", "3.0", "2.0", "1.50"],
        ["`unbind`", "11.0", "10.0", "1.10"],
        ["bind (`drivers_probe`)", "8.0", "8.0", "1.00"],
        ["look for holders", "1.0", "", ""],
        ["look at the GPU, read back", "2.0", "", ""],
        ["**all**", "25.0", "20.0", "1.25"],
    ]


@pytest.mark.parametrize(("whole", "said"), [(30.0, "; met."), (30.1, "; **not met**.")])
def test_the_goal_holds_for_there_and_back_together(whole: float, said: str) -> None:
    assert ratio(agent(whole), SHELL) == pytest.approx(whole / 20.0)
    assert markdown(agent(whole), SHELL, [])[-1].endswith(said)


def test_a_step_is_the_median_of_the_moves_that_way_and_nothing_where_it_was_not_taken() -> None:
    there = [Move(Mode.PASSTHROUGH, {"move": value, "unbind": 1.0}) for value in (3.0, 1.0, 2.0)]
    back = [Move(Mode.SHARED, {"move": 9.0})]
    assert medians([*there, *back], Mode.PASSTHROUGH) == {"move": 2.0, "unbind": 1.0}
    assert medians([*there, Move(Mode.PASSTHROUGH, {"move": 4.0})], Mode.PASSTHROUGH)["unbind"] == 1.0
