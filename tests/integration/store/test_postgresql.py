"""The ledger on a real PostgreSQL: same behaviour as on SQLite, and an outage is only an outage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlmodel import SQLModel

from poolmgr.domain.census import take_census
from poolmgr.domain.errors import Unavailable
from poolmgr.store import tables
from poolmgr.store.database import Database
from poolmgr.store.history import SqlHistory
from poolmgr.store.ledger import DAY, Retention, SqlLedger
from poolmgr.store.migrate import migrate
from tests.integration.store.postgresql import Server, binaries, server
from tests.showcase import NOW, fleet, plan
from tests.unit.store.test_ledger import call, step

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(binaries() is None, reason="no PostgreSQL server here (Debian: postgresql)"),
]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    programs = binaries()
    assert programs is not None
    with server(programs) as running:
        yield running


@pytest.fixture
async def database(postgresql: Server) -> AsyncIterator[Database]:
    opened = Database(postgresql.url, retry_after_seconds=0.1)
    yield opened
    await opened.close()


async def test_everything_recorded_comes_back(database: Database) -> None:
    ledger, history = SqlLedger(database, Retention(plans=1)), SqlHistory(database)
    await ledger.record_plan(plan(), pool="desktops", dry_run=False, outcome="started")
    await ledger.record_step(step("Intend"))
    await ledger.record_call(call())
    await ledger.record_sample(take_census(fleet()))
    await ledger.record_sample(take_census(fleet()))
    await ledger.save_learned_state("p", {"weeks": [1.5, None, "x"]})
    await ledger.save_learned_state("p", {"weeks": []})
    again = replace(plan(), refusals=plan().refusals[1:])
    await ledger.record_plan(again, pool="desktops", dry_run=False, outcome="started")
    last, first = (await history.plans(pool="desktops")).items
    assert (first.plan.moves, first.plan.refusals) == (plan().moves, plan().refusals[::-1])
    assert last.plan.refusals == plan().refusals[1:]
    assert (await history.transitions()).items[0].devices == ("0000:02:00.0",)
    assert (await history.rest_calls()).items == (call(),)
    [sample] = await history.samples(since=NOW - 1, until=NOW)
    assert sample.count.gpus == 8
    assert await ledger.load_learned_state("p") == {"weeks": []}
    await ledger.record_sample(take_census(fleet(taken_at=NOW + 2 * DAY)))
    assert (await history.plans()).items == ()


async def test_two_replicas_that_start_together_both_come_up(postgresql: Server) -> None:
    replicas = [Database(postgresql.url) for _ in range(2)]
    await asyncio.gather(*(SqlLedger(replica).load_learned_state("x") for replica in replicas))
    for replica in replicas:
        await replica.close()


def test_migrated_schema_equals_the_tables(postgresql: Server) -> None:
    engine = create_engine(postgresql.url)
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.PREFIX + "schema", "compare_type": True}
        )
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


async def test_outage_is_unavailable_and_over_when_the_server_is_back(
    postgresql: Server, database: Database
) -> None:
    ledger = SqlLedger(database)
    await ledger.save_learned_state("outage", 1)
    await asyncio.to_thread(postgresql.stop)
    with pytest.raises(Unavailable, match="managed as before"):
        await ledger.save_learned_state("outage", 2)
    await asyncio.to_thread(postgresql.start)
    while True:  # it is asked anew 0.1 s after it failed
        try:
            await ledger.save_learned_state("outage", 3)
            break
        except Unavailable:
            await asyncio.sleep(0.05)
    assert await ledger.load_learned_state("outage") == 3
