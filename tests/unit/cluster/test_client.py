"""Requests: which errors say what, and what is repeated."""

import asyncio
import random

import msgspec
import pytest

from poolmgr import wire
from poolmgr.cluster.client import Absent, Client, Expired, backoff, error_of
from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Fault, PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.reasons import Reason
from tests.unit.cluster.builders import node
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.virtual_clock import VirtualClock


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, Rejected, Reason.API_FORBIDDEN),
        (403, Rejected, Reason.API_FORBIDDEN),
        (404, Absent, Reason.NOT_FOUND),
        (409, Stale, Reason.STALE_GENERATION),
        (410, Expired, Reason.STALE_SNAPSHOT),
        (422, Rejected, Reason.INVALID_REQUEST),
        (429, Unavailable, Reason.API_UNAVAILABLE),
        (500, Unavailable, Reason.API_UNAVAILABLE),
        (503, Unavailable, Reason.API_UNAVAILABLE),
    ],
)
def test_status_becomes_the_error_that_says_what_to_do(
    status: int, kind: type[PoolError], reason: Reason
) -> None:
    error = error_of(Response(status, b'{"message":"said so"}'), "GET /x")
    assert type(error) is kind
    assert error.reason is reason
    assert "said so" in error.message


def test_forbidden_says_what_to_grant() -> None:
    assert "Grant this service account" in error_of(Response(403, b"{}"), "GET /x").message


def test_retry_after_of_the_server_is_passed_on() -> None:
    error = error_of(Response(429, b"{}", retry_after_seconds=17), "x")
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == 17


def test_body_that_is_no_status_is_quoted_shortly() -> None:
    assert "Bad Gateway" in error_of(Response(502, b"<html>Bad Gateway</html>" + b"x" * 999), "x").message


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
