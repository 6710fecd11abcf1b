"""Each decision is kept once, until it says something else."""

from dataclasses import replace

from poolmgr.controller.event_reporter import EventReporter, same_refusals
from poolmgr.domain.estimates import Estimate, Situation
from poolmgr.domain.identifiers import Generation, PlanId, PoolName
from poolmgr.domain.plan import Plan, Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.sim.actuators import MemoryLedger
from tests.builders import NOW, gpu, move


class Silent:
    async def event(self, subject: Subject, reason: Reason, message: str, *, warning: bool = False) -> None:
        return None


def refusal(name: str, reason: Reason = Reason.GPU_BUSY, message: str = "is busy") -> Refusal:
    return Refusal(Subject(SubjectKind.GPU, "n1", name), reason, message)


def plan(*refusals: Refusal) -> Plan:
    return Plan(PlanId("p"), Generation(1), NOW, refusals=refusals)


def test_other_words_and_another_order_are_the_same_refusals() -> None:
    assert same_refusals((refusal("a"), refusal("b")), (refusal("b", message="else"), refusal("a")))


def test_another_reason_another_subject_or_one_more_is_a_difference() -> None:
    known = (refusal("a"), refusal("b"))
    assert not same_refusals(known, (refusal("a"), refusal("b", Reason.COOLDOWN)))
    assert not same_refusals(known, (refusal("a"), refusal("c")))
    assert not same_refusals(known, (*known, refusal("c")))
    assert not same_refusals((refusal("a"), refusal("a")), known)


async def test_plan_is_kept_when_it_does_or_refuses_something_else() -> None:
    ledger = MemoryLedger()
    reporter = EventReporter(ledger, Silent())
    for refusals in ((refusal("a"),), (refusal("a", message="still"),), (refusal("b"),)):
        await reporter.plan(plan(*refusals), ())
    assert [kept.refusals[0].subject.name for kept, *_ in ledger.plans] == ["a", "b"]
    begun = move(gpu())
    moving = replace(plan(refusal("b")), moves=(begun,))
    await reporter.plan(moving, ())
    await reporter.plan(moving, (begun,))
    assert [outcome for *_, outcome in ledger.plans[2:]] == ["no_move", "started"]


async def test_each_pool_of_a_plan_is_kept_with_what_became_of_its_own_moves() -> None:
    ledger = MemoryLedger()
    begun = move(gpu(0))
    shown = move(gpu(1, pool=PoolName("b10")), recommended=True)
    held = move(gpu(2, pool=PoolName("c10")))
    await EventReporter(ledger, Silent()).plan(replace(plan(), moves=(begun, shown, held)), (begun,))
    assert [kept[1:] for kept in ledger.plans] == [
        ("a10", False, "started"),
        ("b10", True, "recommended"),
        ("c10", True, "no_move"),
    ]


async def test_a_move_that_was_recommended_and_is_made_now_is_kept_again() -> None:
    ledger = MemoryLedger()
    reporter = EventReporter(ledger, Silent())
    for recommended in (True, True, False):
        await reporter.plan(replace(plan(), moves=(move(gpu(), recommended=recommended),)), ())
    assert [outcome for *_, outcome in ledger.plans] == ["recommended", "no_move"]


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    async def event(self, subject: Subject, reason: Reason, message: str, *, warning: bool = False) -> None:
        self.said.append(message)


async def test_who_waits_is_told_how_long_once_for_each_answer_and_not_at_each_look() -> None:
    """The estimate is another at every look."""
    heard, who = Heard(), Subject(SubjectKind.VM, "desktops", "jane")
    reporter = EventReporter(MemoryLedger(), heard)
    for seconds in (90.0, 60.0):
        estimate = Estimate(Situation.MOVING, 30.0, seconds, 120.0, 40, assumed=False)
        moves = Refusal(who, Reason.MOVE_UNDER_WAY, "a GPU is moving for it")
        await reporter.plan(replace(plan(moves), estimates={who: estimate}), ())
    assert heard.said == [
        "a GPU is moving for it; it should start in about 90 s, and in nine cases of ten within 30 s to 2 min (measured on 40 like it)"
    ]
