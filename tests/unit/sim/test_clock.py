"""Virtual time: order, tasks and waiting."""

import asyncio

from poolmgr.sim.clock import VirtualClock


async def test_tasks_and_callbacks_run_in_order_of_virtual_time() -> None:
    clock = VirtualClock(100.0)
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((name, clock.now()))

    tasks = [asyncio.create_task(sleeper("late", 30)), asyncio.create_task(sleeper("early", 10))]
    clock.call_later(20, lambda: seen.append(("callback", clock.now())))
    await clock.run_until(200)
    await asyncio.gather(*tasks)
    assert seen == [("early", 110.0), ("callback", 120.0), ("late", 130.0)]
    assert clock.now() == 200


async def test_task_that_sleeps_again_is_woken_at_its_own_time() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    async def ticker() -> None:
        while True:
            await clock.sleep(7)
            seen.append(clock.now())

    task = asyncio.create_task(ticker())
    await clock.run_until(30)
    task.cancel()
    assert seen == [7, 14, 21, 28]


async def test_cancelled_entry_does_not_fire() -> None:
    clock = VirtualClock()
    seen: list[int] = []
    clock.call_later(1, lambda: seen.append(1)).cancel()
    clock.call_later(2, lambda: seen.append(2))
    await clock.run_for(5)
    assert seen == [2]
