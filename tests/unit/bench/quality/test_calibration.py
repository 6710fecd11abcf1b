"""Estimates are held against what happened next."""

from dataclasses import replace
from typing import Any

from bench.quality.calibration import Judged, rows_of
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Plan
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import NOW, node, snapshot, vm


class Planner:
    name = "planner"

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        return PoolPlanner().decide(snapshot, learned)


def judge(*waits: float, gave_up: float | None = None) -> Judged:
    """VMs for each of which a GPU moves, and that start after so many seconds."""
    found = Judged(Planner())
    for rank, seconds in enumerate(waits):
        at, waiting = NOW + rank * 10_000.0, vm(f"v{rank}")
        found.decide(snapshot(node("a", "s"), vms=(waiting,), taken_at=at), None)
        begun = replace(waiting, node=NodeName("a"), waiting_since=None)
        found.decide(snapshot(node("a", "s"), vms=(begun,), taken_at=at + seconds), None)
    if gave_up is not None:
        at = NOW + 1e6
        found.decide(snapshot(node("a", "s"), vms=(vm("late"),), taken_at=at), None)
        found.decide(snapshot(node("a", "s"), taken_at=at + gave_up), None)
    return found


def test_one_that_starts_within_the_range_came_true_and_one_that_starts_later_did_not() -> None:
    claims = judge(60.0, 4_000.0).claims()
    moving = [claim for claim in claims if claim.estimate.situation.value == "Moving"]
    assert [claim.came_true for claim in moving] == [True, False]
    [row] = [row for row in rows_of(claims) if row[1] == "Moving"]
    assert row[2:5] == ("2", "2", "0.500")


def test_one_that_gives_up_within_its_range_is_left_out_and_after_it_counts_as_missed() -> None:
    assert [c.came_true for c in judge(gave_up=10.0).claims() if c.estimate.known] == []
    assert [c.came_true for c in judge(gave_up=4_000.0).claims() if c.estimate.known] == [False]


def test_the_plan_is_the_planners_own() -> None:
    view = snapshot(node("a", "s"), vms=(vm("v"),))
    mine: Plan = Judged(Planner()).decide(view, None).plan
    assert mine == Planner().decide(view, None).plan
