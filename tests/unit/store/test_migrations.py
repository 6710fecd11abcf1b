"""The migrations build exactly the tables that the code expects."""

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
