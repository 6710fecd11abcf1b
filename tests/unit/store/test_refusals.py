"""Refusals that stand from plan to plan are kept once, and each plan comes back with all of its own."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlmodel import Session

from poolmgr.controller.interfaces import Ledger
from poolmgr.domain.census import take_census
from poolmgr.domain.identifiers import PlanId
from poolmgr.domain.plan import Plan, Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.store.database import Database
from poolmgr.store.history import SqlHistory
from poolmgr.store.ledger import DAY, Retention, SqlLedger
from poolmgr.store.migrate import config
from tests.showcase import NOW, fleet, plan


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    await opened.close()


def stays(gpu: int, message: str = "nobody waits for it") -> Refusal:
    return Refusal(Subject(SubjectKind.GPU, "rack-1", f"0000:{gpu:02x}:00.0"), Reason.NO_DEMAND, message)


def waits(pod: str, message: str = "no GPU is free") -> Refusal:
    return Refusal(Subject(SubjectKind.POD, "ml", pod), Reason.NO_CANDIDATE, message)


def saying(*refusals: Refusal, at: float = NOW, name: str = "p") -> Plan:
    return plan(plan_id=PlanId(name), made_at=at, moves=(), targets=(), refusals=refusals)


async def kept(ledger: Ledger, *plans: Plan) -> None:
    for one in plans:
        await ledger.record_plan(one, pool="", dry_run=True, outcome="no_move")


async def told(database: Database) -> list[tuple[Refusal, ...]]:
    """By each plan, oldest first."""
    pages, token = [], ""
    while True:
        page = await SqlHistory(database).plans(page_size=3, page_token=token)
        pages += [past.plan.refusals for past in page.items]
        if not (token := page.next_token):
            return pages[::-1]


def rows(session: Session) -> int:
    return int(session.execute(text("SELECT count(*) FROM poolmgr_plan_refusal")).scalar_one())


async def test_a_plan_adds_what_it_says_anew_and_no_more(database: Database) -> None:
    many = tuple(stays(gpu) for gpu in range(200))
    await kept(SqlLedger(database), saying(*many), saying(*many, waits("a")), saying(*many[1:], waits("a")))
    assert await database.run(rows) == 201
    assert await told(database) == [many, (waits("a"), *many), (waits("a"), *many[1:])]


async def test_other_words_and_what_comes_back_are_said_anew(database: Database) -> None:
    plans = [(stays(1),), (stays(1, "it rests"),), (), (stays(1),), (stays(1), stays(1))]
    await kept(SqlLedger(database), *(saying(*refusals) for refusals in plans))
    assert await told(database) == plans
    assert await database.run(rows) == 4


async def test_one_decision_for_two_pools_says_the_same_in_both(database: Database) -> None:
    ledger = SqlLedger(database)
    for pool in ("a", "b"):
        await ledger.record_plan(saying(stays(1)), pool=pool, dry_run=False, outcome="started")
    assert await told(database) == [(stays(1),)] * 2
    assert await database.run(rows) == 1


async def test_another_manager_goes_on_where_the_first_ended(database: Database) -> None:
    await kept(SqlLedger(database), saying(stays(1), stays(2)))
    await kept(SqlLedger(database), saying(stays(2), stays(3)))
    await kept(SqlLedger(database), saying(stays(3)))
    assert await told(database) == [(stays(1), stays(2)), (stays(2), stays(3)), (stays(3),)]


@pytest.mark.parametrize("seed", range(5))
async def test_any_history_comes_back_also_when_its_beginning_is_forgotten(
    database: Database, seed: int
) -> None:
    rng = random.Random(seed)
    ledger = SqlLedger(database, Retention(plans=1))
    said, plans = [], []
    for number in range(25):
        pool = [stays(gpu, rng.choice(["idle", "rests"])) for gpu in range(6)] + [waits(x) for x in "abc"]
        refusals = rng.sample(pool, rng.randint(0, len(pool)))
        said.append(refusals)
        plans.append(saying(*refusals, at=NOW + 3_600.0 * number, name=f"p{number}"))
    await kept(ledger, *plans)
    assert [sorted(map(repr, one)) for one in await told(database)] == [
        sorted(map(repr, one)) for one in said
    ]
    await ledger.record_sample(take_census(fleet(taken_at=NOW + DAY + 3_600.0 * 10)))
    left = await told(database)
    assert [sorted(map(repr, one)) for one in left] == [sorted(map(repr, one)) for one in said[10:]]
    await kept(ledger, saying(*said[-1], name="again"))
    assert sorted(map(repr, (await told(database))[-1])) == sorted(map(repr, said[-1]))


async def test_a_file_that_grows_too_large_loses_its_oldest_plans(database: Database) -> None:
    ledger = SqlLedger(database, Retention(mebibytes=1.0))
    ever = tuple(stays(gpu) for gpu in range(5))
    for number in range(60):
        words = tuple(stays(gpu, f"{number} " + "x" * 300) for gpu in range(10, 110))
        await kept(ledger, saying(*ever, *words, name=f"p{number}", at=NOW + number))
    before = len(await told(database))
    await ledger.record_sample(take_census(fleet(taken_at=NOW + 60)))
    left = await told(database)
    assert before == 60
    assert 10 < len(left) < 50
    assert left[-1][-100:] == words, "the newest is there"
    assert all(refusals[:5] == ever and len(refusals) == 105 for refusals in left)
    size = await database.run(
        lambda s: (
            s.execute(text("PRAGMA page_count")).scalar_one()
            - s.execute(text("PRAGMA freelist_count")).scalar_one()
        )
    )
    assert size * 4096 <= 2**20
    # The room that is free again is used again: the file grows no further.
    pages = await database.run(lambda s: s.execute(text("PRAGMA page_count")).scalar_one())
    for number in range(60, 90):
        await kept(ledger, saying(*words, stays(number), name=f"p{number}", at=NOW + number))
    assert await database.run(lambda s: s.execute(text("PRAGMA page_count")).scalar_one()) == pages


async def test_history_of_the_release_before_comes_back_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(config(connection), "0002")
        for number in (1, 2):
            connection.execute(
                text(
                    "INSERT INTO poolmgr_plan (id, plan_id, pool, snapshot_generation, made_at, dry_run, outcome, "
                    f"refusals_left_out) VALUES ({number}, 'p{number}', '', 1, {NOW}, 1, 'no_move', 0)"
                )
            )
            for refusal in (stays(1), waits(f"pod-{number}")):
                values = (number, *map(str, refusal.subject), str(refusal.reason), refusal.message)
                words = "', '".join(map(str, values[1:]))
                connection.execute(
                    text(
                        "INSERT INTO poolmgr_plan_refusal (plan, kind, namespace, name, reason, message) "
                        f"VALUES ({number}, '{words}')"
                    )
                )
    engine.dispose()
    database = Database(url)
    await kept(SqlLedger(database), saying(stays(1)))
    assert await told(database) == [
        (waits("pod-1"), stays(1)),
        (waits("pod-2"), stays(1)),
        (stays(1),),
    ]
    await database.close()
