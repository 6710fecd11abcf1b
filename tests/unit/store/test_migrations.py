"""The migrations build exactly the tables that the code expects."""

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlmodel import SQLModel

from poolmgr.store import tables
from poolmgr.store.migrate import migrate


def test_migrated_schema_equals_the_tables() -> None:
    engine = create_engine("sqlite://")
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.PREFIX + "schema", "compare_type": True}
        )
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrating_twice_changes_nothing() -> None:
    engine = create_engine("sqlite://")
    migrate(engine)
    migrate(engine)


def test_several_databases_of_one_process_are_migrated_at_the_same_time() -> None:
    """The one of a test that has ended may still be at it, in its thread."""
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(migrate, create_engine("sqlite://")) for _ in range(16)]:
            done.result()
