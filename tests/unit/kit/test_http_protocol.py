"""Connections that strangers open and do not use as they should."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from poolmgr.kit.http_protocol import REQUEST_SECONDS, BoundedProtocol

KEEP_ALIVE = 120
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


class Timer:
    def __init__(self, seconds: float, work: Callable[[], None]) -> None:
        self.seconds, self.work, self.cancelled = seconds, work, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Timers that a test ends, and requests that are begun and answered by nobody."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.begun = 0
        self.now = 0.0

    def time(self) -> float:
        self.now += 1.0
        return self.now

    def call_later(self, seconds: float, work: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, work))
        return self.timers[-1]

    def create_task(self, work: Any, **_: Any) -> "asyncio.Future[None]":
        work.close()
        self.begun += 1
        return asyncio.get_running_loop().create_future()

    @property
    def waits(self) -> list[float]:
        return [timer.seconds for timer in self.timers if not timer.cancelled]

    def pass_by(self) -> None:
        """All that is waited for comes to its end."""
        due = [timer for timer in self.timers if not timer.cancelled]
        self.timers = []
        for timer in due:
            timer.work()


class Transport:
    def __init__(self, address: str) -> None:
        self._address = address
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return {"peername": (self._address, 4711), "sockname": ("10.0.0.1", 8080)}.get(name)

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Server:
    def __init__(self, protocol: type[BoundedProtocol] = BoundedProtocol) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None: ...

        self._config = uvicorn.Config(app, http=BoundedProtocol, timeout_keep_alive=KEEP_ALIVE)
        self._config.load()
        self._state = ServerState()
        self.loop = Loop()
        self._protocol = protocol

    def connect(self, address: str = "10.0.0.9") -> tuple[BoundedProtocol, Transport]:
        protocol = self._protocol(self._config, self._state, {}, self.loop)  # type: ignore[arg-type]
        transport = Transport(address)
        protocol.connection_made(transport)  # type: ignore[arg-type]
        return protocol, transport


async def test_connection_without_a_request_is_kept_as_long_as_an_idle_one() -> None:
    server = Server()
    _, transport = server.connect()
    assert server.loop.waits == [KEEP_ALIVE]
    server.loop.pass_by()
    assert transport.closed


@pytest.mark.parametrize("start", [WHOLE[:1], WHOLE[:-1], POST, POST + b"half"])
async def test_request_that_does_not_arrive_closes_its_connection(start: bytes) -> None:
    server = Server()
    protocol, transport = server.connect()
    for byte in start:
        protocol.data_received(bytes([byte]))
    assert server.loop.waits == [REQUEST_SECONDS], "one deadline for all of it, however slowly it comes"
    server.loop.pass_by()
    assert transport.closed


@pytest.mark.parametrize("request_", [WHOLE, POST + b"whole"])
async def test_request_that_is_whole_may_be_answered_as_late_as_one_likes(request_: bytes) -> None:
    server = Server()
    protocol, transport = server.connect()
    for byte in request_:
        protocol.data_received(bytes([byte]))
    assert (server.loop.begun, server.loop.waits, transport.closed) == (1, [], False)


async def test_what_is_no_request_keeps_a_connection_no_longer_than_silence() -> None:
    server = Server()
    protocol, _ = server.connect()
    protocol.data_received(WHOLE)
    protocol.cycle.response_complete = True
    protocol.data_received(b"\r\n")
    assert server.loop.waits == [KEEP_ALIVE]


async def test_second_request_waits_behind_the_first_without_a_deadline_of_ours() -> None:
    server = Server()
    protocol, transport = server.connect()
    protocol.data_received(WHOLE + WHOLE + POST)
    assert server.loop.waits == [REQUEST_SECONDS]
    server.loop.pass_by()
    assert (transport.closed, server.loop.waits) == (False, [REQUEST_SECONDS]), "it is we who do not read"


class Small(BoundedProtocol):
    most_of_one_address, most_connections = 5, 8


async def test_one_address_has_so_many_connections_the_latest_of_all() -> None:
    server = Server(Small)
    flood = [server.connect("10.0.0.66") for _ in range(7)]
    assert [transport.closed for _, transport in flood] == [True] * 2 + [False] * 5
    others = [server.connect(f"10.0.0.{n}")[1] for n in range(4)]
    assert [transport.closed for transport in others] == [False] * 4
    assert [transport.closed for _, transport in flood] == [True] * 3 + [False] * 4, "8 in all"


@pytest.mark.parametrize("start", [b"", WHOLE[:-1], POST + b"half"])
async def test_a_probe_takes_the_place_of_a_request_that_does_not_arrive(start: bytes) -> None:
    server = Server(Small)
    answering, busy = server.connect()
    answering.data_received(WHOLE)
    flood = [server.connect() for _ in range(4)]
    for protocol, _ in flood:
        protocol.data_received(start)
    _, probe = server.connect()
    assert (busy.closed, probe.closed) == (False, False)
    assert [transport.closed for _, transport in flood] == [True, False, False, False]


async def test_where_all_are_being_answered_the_newcomer_is_closed() -> None:
    server = Server(Small)
    busy = [server.connect() for _ in range(5)]
    for protocol, _ in busy:
        protocol.data_received(WHOLE)
    assert server.connect()[1].closed
    assert not any(transport.closed for _, transport in busy)
    busy[3][0].cycle.response_complete = True
    assert not server.connect()[1].closed
    assert [transport.closed for _, transport in busy] == [False, False, False, True, False]


async def test_a_connection_that_ends_makes_room() -> None:
    server = Server()
    protocol, _ = server.connect()
    assert server._state.connections == {protocol}
    protocol.connection_lost(ConnectionResetError())
    assert (server._state.connections, server.loop.waits) == (set(), [])
