"""One database, one worker thread: SQL never runs on the event loop.

Opened and migrated at the first use, so that a manager starts and steers without it. A database that does not
answer costs its callers at most `timeout_seconds`, and then fails them at once until it may be tried again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, NoSuchModuleError, SQLAlchemyError
from sqlmodel import Session, create_engine

from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock, SystemClock
from poolmgr.store.migrate import MigrationError, migrate

Result = TypeVar("Result")
log = structlog.get_logger()

MAX_WAITING = 64
"""Calls that may queue for the worker; beyond that the database is too slow to be worth waiting for."""


class Database:
    """Runs functions of a Session in the worker. A function's writes are committed together or not at all."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        retry_after_seconds: float = 15.0,
        clock: Clock | None = None,
    ) -> None:
        """Parse `url` (any SQLAlchemy URL); nothing is opened yet. Raises Rejected for one that makes no sense."""
        try:
            self._url = make_url(url)
            self._url.get_dialect()
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            raise Rejected(
                Reason.STORE_UNAVAILABLE,
                f"the ledger's database URL cannot be used: {error}; write it like "
                "sqlite:///poolmgr.sqlite or postgresql+psycopg://user:password@host/database",
            ) from error
        self._timeout = timeout_seconds
        self._retry_after = retry_after_seconds
        self._clock = clock or SystemClock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._engine: Engine | None = None
        self._waiting = 0
        self._closed_until = float("-inf")
        self._why = ""

    @property
    def where(self) -> str:
        """The URL without its password, for messages."""
        return self._url.render_as_string(hide_password=True)

    async def quiet(self) -> None:
        """Return when everything asked for so far has been done."""
        if self._waiting:
            await asyncio.get_running_loop().run_in_executor(self._worker, lambda: None)

    async def run(self, work: Callable[[Session], Result]) -> Result:
        """`work` in a transaction of its own. Raises Unavailable; then nothing was written, or, after a
        timeout, it may still be."""
        if self._clock.monotonic() < self._closed_until:
            raise self._unavailable(self._why)
        if self._waiting >= MAX_WAITING:
            raise self._unavailable(f"{self._waiting} calls already wait for it")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._worker, self._transact, work)
        future.add_done_callback(self._one_less)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout)
        except TimeoutError as error:
            self._shut_for_now(f"no answer within {self._timeout:g} s")
            raise self._unavailable(self._why) from error
        except DataError as error:  # a value that it cannot hold says nothing about the next
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"the history database does not take this value ({_first_line(error)})",
            ) from error
        except (SQLAlchemyError, MigrationError, OSError) as error:
            # Where it is and what it said is for who reads the log, not for everybody who asks the API.
            log.warning("ledger_unavailable", database=self.where, why=_first_line(error))
            self._shut_for_now(
                str(error) if isinstance(error, MigrationError) else "the manager's log says why"
            )
            raise self._unavailable(self._why) from error

    async def close(self) -> None:
        """Let go of connections and thread. A call that hangs in the worker is not waited for."""
        engine, self._engine = self._engine, None
        self._worker.shutdown(wait=False, cancel_futures=True)
        if engine is not None and not self._waiting:
            engine.dispose()

    def _transact(self, work: Callable[[Session], Result]) -> Result:
        if self._engine is None:
            engine = _engine(self._url, self._timeout)
            migrate(engine)
            self._engine = engine
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            return work(session)

    def _one_less(self, future: "asyncio.Future[Any]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()

    def _shut_for_now(self, why: str) -> None:
        self._why = why
        self._closed_until = self._clock.monotonic() + self._retry_after

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(
            Reason.STORE_UNAVAILABLE,
            f"the history database is unavailable ({why}): no history is kept until it is back, and GPUs are managed as "
            "before",
            self._retry_after,
        )


def _engine(url: URL, timeout_seconds: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        # One thread, one connection: also what keeps `sqlite://` (in memory) one and the same database.
        from sqlalchemy.pool import StaticPool

        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _set_up_sqlite)
        return engine
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        arguments = {
            "connect_timeout": max(1, int(timeout_seconds)),
            "options": f"-c statement_timeout={int(timeout_seconds * 1000)}",
        }
    return create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=arguments)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    """WAL lets a reader such as `sqlite3` look in while we write; NORMAL may lose the last second in a power
    cut and never corrupts, which is enough for history."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=3000"):
        connection.execute(f"PRAGMA {pragma}")


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0]
