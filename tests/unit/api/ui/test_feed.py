"""The last decisions in sentences."""

from dataclasses import replace

from poolmgr.api.ui import feed
from poolmgr.domain.history import PastDecision, PastStep, PastTransition
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from tests.showcase import NOW, plan


def refused(at: float, message: str = "every A10 is busy") -> PastDecision:
    return PastDecision(at, Subject(SubjectKind.VM, "cad", "ada"), False, Reason.NO_CANDIDATE, message)


def ended(at: float, rolled_back: bool = False) -> PastTransition:
    last = PastStep("Done", "MoveCompleted", "GPU 1 on n1 is Shared now", at, 1)
    return PastTransition("p", "n1", ("0000:01:00.0",), "Shared", at - 75, at, rolled_back, (last,))


def test_newest_first_and_how_long_a_move_took() -> None:
    lines = feed.from_ledger([refused(NOW)], [ended(NOW + 60)])
    assert [(line.kind, line.text) for line in lines] == [
        ("done", "GPU 1 on n1 is Shared now, after 1 min."),
        ("refused", "VM cad/ada: every A10 is busy."),
    ]


def test_workload_that_waits_on_for_one_reason_is_told_once() -> None:
    lines = feed.from_ledger([refused(NOW + 9), refused(NOW), refused(NOW + 5, "no A10 at all")], [])
    assert [line.at for line in lines] == [NOW]


def of(name: str, at: float, message: str = "every A10 is busy") -> PastDecision:
    return replace(refused(at, message), subject=Subject(SubjectKind.POD, "ml", name))


def test_workloads_that_are_told_the_same_are_one_line() -> None:
    told = [of(f"job-{n}", NOW + n) for n in range(40)]
    lines = feed.from_ledger([*told, of("other", NOW + 7, "it asks for 80 GiB")], [])
    assert [(line.at, line.text) for line in lines] == [
        (NOW + 39, "Pod ml/job-39 and 39 more pods: every A10 is busy."),
        (NOW + 7, "Pod ml/other: it asks for 80 GiB."),
    ]


def test_moves_are_not_pushed_out_by_who_waits_nor_the_other_way() -> None:
    told = [of(f"job-{n}", NOW + 100 + n, f"no room for {n} MiB") for n in range(40)]
    moves = [
        replace(ended(NOW + n), steps=(PastStep("Done", "MoveCompleted", f"GPU {n} is Shared", NOW, 1),))
        for n in range(20)
    ]
    kinds = [line.kind for line in feed.from_ledger(told, moves)]
    assert (len(kinds), kinds.count("done"), kinds.count("refused")) == (10, 6, 4)
    assert [line.kind for line in feed.from_ledger(told, moves[:1])].count("refused") == 9


def test_undone_move_looks_different() -> None:
    assert [line.kind for line in feed.from_ledger([], [ended(NOW, rolled_back=True)])] == ["undone"]


def test_without_a_ledger_the_newest_plan_speaks() -> None:
    # The VM of the plan has a GPU on its way: that is no news worth a line.
    assert [line.kind for line in feed.from_plan(plan())] == ["move"]
    assert feed.from_plan(None) == ()


def test_a_move_that_is_only_recommended_is_no_line_of_what_was_done() -> None:
    moves = tuple(replace(move, recommended=True) for move in plan().moves)
    assert feed.from_plan(replace(plan(), moves=moves)) == ()
