"""Requests: which errors say what, and what is repeated."""

import asyncio
import random

import msgspec
import pytest

from poolmgr import wire
from poolmgr.cluster.client import Client, backoff
from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Fault, Unavailable
from poolmgr.wire.http_errors import Absent
from tests.unit.cluster.builders import node
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.virtual_clock import VirtualClock


def test_backoff_grows_is_jittered_and_capped() -> None:
    rng = random.Random(1)
    early = [backoff(rng, 1) for _ in range(200)]
    late = [backoff(rng, 50) for _ in range(200)]
    assert 0 < min(early) < max(early) <= 0.2
    assert 0.5 <= min(late) < max(late) <= 5.0


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeApi(self.clock)
        self.api.put("/api/v1/nodes", node())
        self.transport = self.api.transport()
        self.client = Client(self.transport, clock=self.clock, rng=random.Random(1))


async def test_read_is_repeated_until_the_deadline_then_says_unavailable() -> None:
    bench = Bench()
    bench.transport.down = True
    reading = asyncio.ensure_future(bench.client.read("/api/v1/nodes/n1", wire.Node, deadline_seconds=15))
    await bench.clock.advance(14)
    assert not reading.done()
    await bench.clock.advance(10)
    with pytest.raises(Unavailable):
        await reading
    assert 5 <= bench.api.count("GET") <= 60


async def test_read_succeeds_as_soon_as_the_server_answers() -> None:
    bench = Bench()
    bench.transport.down = True
    reading = asyncio.ensure_future(bench.client.read("/api/v1/nodes/n1", wire.Node))
    await bench.clock.advance(3)
    bench.transport.down = False
    await bench.clock.advance(6)
    assert (await reading).metadata.name == "n1"


async def test_refusal_is_not_repeated() -> None:
    bench = Bench()
    with pytest.raises(Absent):
        await bench.client.read("/api/v1/nodes/n2", wire.Node)
    assert bench.api.count("GET") == 1


async def test_write_is_never_repeated() -> None:
    bench = Bench()
    bench.transport.lose_answers = True
    with pytest.raises(Unavailable):
        await bench.client.write("PATCH", "/api/v1/nodes/n1", {"spec": {}}, wire.Node)
    assert bench.api.count("PATCH") == 1


async def test_answer_that_is_not_understood_is_a_fault() -> None:
    bench = Bench()
    bench.transport.answers.append(Response(200, b'{"metadata": 5}'))
    with pytest.raises(Fault, match="answered something unexpected"):
        await bench.client.read("/api/v1/nodes/n1", wire.Node)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(b'{"metadata": 5}', type=wire.Node)
