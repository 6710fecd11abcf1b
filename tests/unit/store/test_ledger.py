"""What goes into the ledger comes out of it, in pages, and leaves when its time is over."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlmodel import Session

from poolmgr.controller.interfaces import Ledger, StepRecord
from poolmgr.domain.census import Count, take_census
from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.history import RestCall
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.store.database import Database
from poolmgr.store.history import SqlHistory
from poolmgr.store.ledger import DAY, Retention, SqlLedger
from tests.showcase import NOW, fleet, plan


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    await opened.close()


def step(name: str, reason: Reason = Reason.STEP_DONE, at: float = NOW, **changes: object) -> StepRecord:
    record = StepRecord(
        plan_id=PlanId("ab12cd34"),
        node=NodeName("rack-2"),
        devices=(PciAddress("0000:02:00.0"),),
        to_mode=Mode.PASSTHROUGH,
        step=name,
        reason=reason,
        message=f"{name} happened",
        at=at,
        epoch=LeaseEpoch(3),
    )
    return replace(record, **changes)


def call(path: str = "/api/v1/pools/desktops:rebalance", **changes: object) -> RestCall:
    return replace(RestCall(NOW, "token", "POST", path, 200, "", True, "r-1"), **changes)


async def test_plan_comes_back_as_it_was_recorded(database: Database) -> None:
    ledger: Ledger = SqlLedger(database)
    await ledger.record_plan(plan(), pool="desktops", dry_run=True, outcome="shown")
    page = await SqlHistory(database).plans()
    [past] = page.items
    # Refusals about workloads come first: they are kept when there are too many.
    assert past.plan == replace(plan(), refusals=plan().refusals[::-1])
    assert (past.pool, past.dry_run, past.outcome) == ("desktops", True, "shown")
    assert page.next_token == ""


async def test_refusals_beyond_the_limit_are_counted_and_workloads_kept(database: Database) -> None:
    ledger = SqlLedger(database, Retention(refusals_per_plan=1))
    await ledger.record_plan(plan(), pool="", dry_run=False, outcome="started")
    [past] = (await SqlHistory(database).plans()).items
    assert [r.subject.name for r in past.plan.refusals] == ["ada-workstation"]
    assert past.refusals_left_out == 1


async def test_a_recommended_move_comes_back_as_recommended(database: Database) -> None:
    shown = replace(plan(), moves=tuple(replace(move, recommended=True) for move in plan().moves))
    await SqlLedger(database).record_plan(shown, pool="desktops", dry_run=True, outcome="recommended")
    [past] = (await SqlHistory(database).plans()).items
    assert past.outcome == "recommended"
    assert past.plan.moves == shown.moves
    assert not [d for d in await SqlHistory(database).decisions(limit=9, without=frozenset()) if d.moved]


async def test_pages_of_plans_meet_without_gap_or_overlap(database: Database) -> None:
    ledger, history = SqlLedger(database), SqlHistory(database)
    for number in range(5):
        await ledger.record_plan(plan(plan_id=PlanId(f"p{number}")), pool="a", dry_run=False, outcome="")
    await ledger.record_plan(plan(), pool="b", dry_run=False, outcome="")
    seen, token = [], ""
    while True:
        page = await history.plans(pool="a", page_size=2, page_token=token)
        seen += [past.plan.plan_id for past in page.items]
        token = page.next_token
        if not token:
            break
    assert seen == ["p4", "p3", "p2", "p1", "p0"]


@pytest.mark.parametrize("token", ["x", "-1", "1" * 19, "١"])
async def test_foreign_page_token_is_rejected(database: Database, token: str) -> None:
    with pytest.raises(Rejected) as refused:
        await SqlHistory(database).plans(page_token=token)
    assert refused.value.reason is Reason.INVALID_REQUEST


async def test_steps_of_one_move_are_one_transition_until_it_ends(database: Database) -> None:
    ledger, history = SqlLedger(database), SqlHistory(database)
    await ledger.record_step(step("Intend"))
    await ledger.record_step(step("Fence", at=NOW + 1))
    [running] = (await history.transitions()).items
    assert running.ended_at is None
    await ledger.record_step(step("Done", Reason.MOVE_COMPLETED, NOW + 9))
    await ledger.record_step(step("Intend", at=NOW + 60))
    again, first = (await history.transitions(node="rack-2")).items
    assert [s.step for s in first.steps] == ["Intend", "Fence", "Done"]
    assert (first.started_at, first.ended_at, first.rolled_back) == (NOW, NOW + 9, False)
    assert (again.started_at, again.ended_at) == (NOW + 60, None)
    assert (await history.transitions(node="rack-9")).items == ()


async def test_move_that_turns_back_says_so(database: Database) -> None:
    ledger = SqlLedger(database)
    await ledger.record_step(step("Drain", Reason.STEP_TIMED_OUT))
    await ledger.record_step(step("Release", to_mode=Mode.SHARED))
    await ledger.record_step(step("Done", Reason.ROLLED_BACK, NOW + 5, to_mode=Mode.SHARED))
    [move] = (await SqlHistory(database).transitions()).items
    assert move.rolled_back
    assert move.to_mode == "Shared"
    assert move.ended_at == NOW + 5


async def test_samples_are_summed_over_pools_and_bounded_in_time(database: Database) -> None:
    ledger, history = SqlLedger(database), SqlHistory(database)
    for minute in range(3):
        await ledger.record_sample(take_census(fleet(taken_at=NOW + 60 * minute)))
    await ledger.record_sample(take_census(fleet(taken_at=NOW)))
    samples = await history.samples(since=NOW, until=NOW + 60)
    assert [s.at for s in samples] == [NOW, NOW + 60]
    assert samples[0].count.gpus == 8
    assert samples[0].count.shared_share == 0.5
    assert await history.samples(since=NOW, until=NOW + 60, pool="other") == ()
    assert isinstance(samples[0].count, Count)


async def test_decisions_are_moves_begun_and_workloads_told_to_wait(database: Database) -> None:
    ledger, history = SqlLedger(database), SqlHistory(database)
    await ledger.record_plan(plan(made_at=NOW - 5), pool="desktops", dry_run=True, outcome="no_move")
    await ledger.record_plan(plan(), pool="desktops", dry_run=False, outcome="started")
    decisions = await history.decisions(limit=10, without=frozenset())
    assert [(d.at, d.moved, d.subject.name) for d in decisions] == [
        (NOW, True, "0000:02:00.0"),
        (NOW - 5, False, "ada-workstation"),
    ], "when it was first told"
    [move] = await history.decisions(limit=10, without=frozenset({Reason.MOVE_UNDER_WAY}))
    assert move.moved
    newest = await history.decisions(limit=1, without=frozenset())
    assert newest == decisions[:2], "one of each: workloads that wait hide no move"


async def test_learned_state_is_the_last_one_saved(database: Database) -> None:
    ledger = SqlLedger(database)
    assert await ledger.load_learned_state("threshold") is None
    await ledger.save_learned_state("threshold", {"seen": [1, 2.5]})
    await ledger.save_learned_state("threshold", {"seen": [3]})
    assert await ledger.load_learned_state("threshold") == {"seen": [3]}
    assert await ledger.load_learned_state("other") is None


async def test_damaged_learned_state_is_refused_with_a_sentence_and_can_be_overwritten(
    database: Database,
) -> None:
    ledger = SqlLedger(database)
    await ledger.save_learned_state("p", {"seen": [1]})
    await database.run(
        lambda session: session.execute(text("UPDATE poolmgr_planner_memory SET memory = '{\"se'"))
    )
    with pytest.raises(Rejected, match="is not JSON") as refused:
        await ledger.load_learned_state("p")
    assert refused.value.reason is Reason.LEARNED_STATE_DAMAGED
    await ledger.save_learned_state("p", {"seen": [2]})
    assert await ledger.load_learned_state("p") == {"seen": [2]}


async def test_calls_are_kept_with_their_answer(database: Database) -> None:
    await SqlLedger(database).record_call(call(caller="x" * 999))
    [kept] = (await SqlHistory(database).rest_calls()).items
    assert kept == call(caller="x" * 253)


async def test_old_history_is_removed_with_everything_that_hangs_on_it(database: Database) -> None:
    ledger = SqlLedger(database, Retention(plans=1, transitions=1, samples=1, rest_calls=1))
    await ledger.record_plan(plan(), pool="", dry_run=False, outcome="")
    await ledger.record_step(step("Intend"))
    await ledger.record_call(call())
    await ledger.record_sample(take_census(fleet()))
    # The sample of a day later removes what is older on its way.
    await ledger.record_sample(take_census(fleet(taken_at=NOW + DAY + 1)))
    left = await database.run(_count_rows)
    assert left == {"poolmgr_demand_sample": 1}


def _count_rows(session: Session) -> dict[str, int]:
    connection = session.connection()
    names = [n for n in inspect(connection).get_table_names() if n != "poolmgr_schema"]
    counts = {n: int(connection.exec_driver_sql(f"SELECT count(*) FROM {n}").scalar_one()) for n in names}
    return {name: count for name, count in counts.items() if count}


async def test_ledger_survives_being_closed_and_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    first = Database(url)
    await SqlLedger(first).save_learned_state("p", 1)
    await first.close()
    second = Database(url)
    assert await SqlLedger(second).load_learned_state("p") == 1
    await second.close()


async def test_missing_database_is_unavailable_and_costs_nothing_until_it_may_be_tried_again(
    tmp_path: Path,
) -> None:
    class Hands:
        at = 0.0

        def now(self) -> float:
            return self.at

        monotonic = now

        async def sleep(self, seconds: float) -> None:
            self.at += seconds

    clock, folder = Hands(), tmp_path / "later"
    database = Database(f"sqlite:///{folder / 'ledger.sqlite'}", retry_after_seconds=15, clock=clock)
    ledger = SqlLedger(database)
    with pytest.raises(Unavailable, match="managed as before") as refused:
        await ledger.save_learned_state("p", 1)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    folder.mkdir()
    with pytest.raises(Unavailable):
        await ledger.save_learned_state("p", 1)
    await clock.sleep(16)
    await ledger.save_learned_state("p", 1)
    assert await ledger.load_learned_state("p") == 1
    await database.close()


async def test_database_of_a_newer_release_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = Database(f"sqlite:///{path}")
    await SqlLedger(first).save_learned_state("p", 1)
    await first.close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE poolmgr_schema SET version_num = '9999'")
    engine.dispose()
    second = Database(f"sqlite:///{path}")
    with pytest.raises(Unavailable, match="newer poolmgr"):
        await SqlLedger(second).load_learned_state("p")
    await second.close()


async def test_slow_database_fails_its_caller_in_time() -> None:
    import threading

    release = threading.Event()
    database = Database("sqlite://", timeout_seconds=0.05)
    with pytest.raises(Unavailable, match="no answer within"):
        await database.run(lambda session: release.wait(5))
    release.set()
    await asyncio.sleep(0)
    await database.close()


@pytest.mark.parametrize("url", ["", "nonsense", "nosuchdb://host/x"])
def test_url_that_makes_no_sense_is_rejected_with_examples(url: str) -> None:
    with pytest.raises(Rejected, match="postgresql"):
        Database(url)


def test_password_is_never_shown() -> None:
    assert "secret" not in Database("postgresql+psycopg://me:secret@db/ledger").where
