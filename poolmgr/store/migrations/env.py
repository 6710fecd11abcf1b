"""Alembic's entry. Runs on the connection that `poolmgr.store.migrate` hands over, in its transaction."""

from alembic import context
from sqlmodel import SQLModel

from poolmgr.store import tables

VERSION_TABLE = tables.PREFIX + "schema"

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=VERSION_TABLE,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
context.run_migrations()
