"""History is written in its order, and nobody waits for it."""

import asyncio
from typing import Any

import pytest

from poolmgr.domain.errors import Unavailable
from poolmgr.sim.actuators import MemoryLedger
from poolmgr.store.queue import LONGEST, QueuedLedger
from tests.showcase import plan


class Slow(MemoryLedger):
    """Answers once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def record_plan(self, *arguments: Any, **over: Any) -> None:
        await self.go.wait()
        await super().record_plan(*arguments, **over)


async def keep(ledger: QueuedLedger, pool: str) -> None:
    await ledger.record_plan(plan(), pool=pool, dry_run=True, outcome="no_move")


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_caller_goes_on_while_the_database_is_busy_and_order_is_kept() -> None:
    slow = Slow()
    ledger = QueuedLedger(slow)
    running = asyncio.create_task(ledger.run())
    for pool in ("a", "b", "c"):
        await keep(ledger, pool)
    await turns()
    assert slow.plans == []
    slow.go.set()
    await turns()
    assert [pool for _, pool, *_ in slow.plans] == ["a", "b", "c"]
    running.cancel()


async def test_database_that_is_down_is_told_to_the_next_caller_until_it_is_back() -> None:
    memory = MemoryLedger(gone=True)
    ledger = QueuedLedger(memory)
    running = asyncio.create_task(ledger.run())
    await keep(ledger, "a")
    await turns()
    with pytest.raises(Unavailable, match="the ledger is away"):
        await keep(ledger, "b")
    memory.gone = False
    await turns()
    await keep(ledger, "c")
    await turns()
    assert [pool for _, pool, *_ in memory.plans] == ["b", "c"]
    running.cancel()


async def test_database_that_never_keeps_up_costs_history_and_no_memory() -> None:
    ledger = QueuedLedger(Slow())
    for number in range(LONGEST):
        await keep(ledger, str(number))
    with pytest.raises(Unavailable, match="the history database is too slow"):
        await keep(ledger, "one more")


async def test_what_is_queued_is_written_when_the_process_ends() -> None:
    memory = MemoryLedger()
    ledger = QueuedLedger(memory)
    running = asyncio.create_task(ledger.run())
    await asyncio.sleep(0)
    await keep(ledger, "last")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [pool for _, pool, *_ in memory.plans] == ["last"]
