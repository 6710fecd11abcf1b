"""Brings a database to the schema of this release, from empty or from any earlier one."""

import threading

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.engine import Engine

LOCK = 7_330_611_240_551
"""PostgreSQL advisory lock, any fixed number: two replicas that start together migrate one after the other."""


_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in its modules: two databases of one process would meet there."""


class MigrationError(Exception):
    """The database has a schema that this release does not know, or the change to it failed."""


def migrate(engine: Engine) -> None:
    """Upgrade to the newest revision. Raises MigrationError, or SQLAlchemyError where the database says no."""
    with _ONE_AT_A_TIME, engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        try:
            command.upgrade(config(connection), "head")
        except CommandError as error:
            raise MigrationError(
                f"its schema is not of this release ({error}): it was made by a newer poolmgr; "
                "upgrade this one or give it another database"
            ) from error


def config(connection: object = None) -> Config:
    """Alembic's view of the migrations in this package; works on `connection` where one is given."""
    settings = Config()
    settings.set_main_option("script_location", "poolmgr.store:migrations")
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings
