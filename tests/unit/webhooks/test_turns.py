"""Fairness by counts: who was decided before whom. Nothing here depends on how fast it goes."""

import asyncio

import pytest

from webhooks.turns import MOST_WAITING, Buffer, Crowded, Turns


async def take_turn(turns: Turns, namespace: str, order: list[str]) -> None:
    async with turns.turn(namespace):
        order.append(namespace)


async def test_a_namespace_with_many_reviews_is_before_anothers_next_with_one_of_them() -> None:
    turns, order = Turns(), list[str]()
    flood = [asyncio.ensure_future(take_turn(turns, "flood", order)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(take_turn(turns, name, order)) for name in ("a", "b", "a")]
    await asyncio.gather(*flood, *others)
    assert len(order) == MOST_WAITING + 3
    assert [order.index("a"), order.index("b"), len(order) - 1 - order[::-1].index("a")] <= [2, 3, 5]


async def test_one_review_is_decided_at_a_time() -> None:
    turns, inside, most = Turns(), 0, 0

    async def decide(namespace: str) -> None:
        nonlocal inside, most
        async with turns.turn(namespace):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(decide(str(number % 3)) for number in range(30)))
    assert most == 1


async def test_more_of_one_namespace_than_may_wait_are_turned_away_and_others_are_not() -> None:
    turns, order = Turns(), list[str]()
    waiting = [asyncio.ensure_future(take_turn(turns, "flood", order)) for _ in range(MOST_WAITING + 5)]
    other = asyncio.ensure_future(take_turn(turns, "other", order))
    found = await asyncio.gather(*waiting, other, return_exceptions=True)
    assert sum(isinstance(error, Crowded) for error in found) == 5
    assert order.count("other") == 1


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_who_goes_away_keeps_nobodys_turn(gone: int) -> None:
    turns, order = Turns(), list[str]()
    tasks = [asyncio.ensure_future(take_turn(turns, name, order)) for name in "abc"]
    for _ in range(2):  # the first has its turn and has not gone on yet
        await asyncio.sleep(0)
    tasks[gone].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(take_turn(turns, "d", order), 60)
    assert order == [name for name in "abcd" if name != "abc"[gone]]


async def test_a_turn_goes_on_after_one_that_failed() -> None:
    turns, order = Turns(), list[str]()
    with pytest.raises(ValueError, match="planted"):
        async with turns.turn("a"):
            raise ValueError("planted")
    await asyncio.wait_for(take_turn(turns, "b", order), 60)


async def test_bodies_wait_for_room_in_the_order_in_which_they_came() -> None:
    buffer, held, order = Buffer(10), 0, list[int]()

    async def read(size: int) -> None:
        nonlocal held
        async with buffer.taken(size):
            order.append(size)
            held += size
            assert held <= 10
            await asyncio.sleep(0)
            held -= size

    await asyncio.gather(*(read(size) for size in (6, 5, 4, 10, 1)))
    assert order == [6, 5, 4, 10, 1]


async def test_who_gives_up_waiting_for_room_leaves_all_of_it() -> None:
    buffer = Buffer(10)
    async with buffer.taken(8):
        waiting = [asyncio.ensure_future(buffer.taken(5).__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting[1], 60)
    async with asyncio.timeout(60), buffer.taken(5):
        pass
