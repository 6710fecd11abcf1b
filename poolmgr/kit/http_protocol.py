"""HTTP/1.1 connections that strangers may open: bounded in number, in the length of a request's head, and in the time that a
request may take to arrive. uvicorn bounds none of these."""

import asyncio
from collections.abc import Sequence

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT_BYTES = 64 * 2**10
"""As uvicorn's other parser has it; a browser sends some 2 KB, an API server some 300 bytes."""
REQUEST_SECONDS = 10.0
"""From a request's first byte to its last."""


class BoundedProtocol(HttpToolsProtocol):
    """llhttp keeps heads and trailers of any size: a connection on which more has come than a request may have is closed,
    and so is one whose request does not arrive. Bodies are counted where they are read."""

    most_connections = 2048
    """Of one server; each takes some 30 KB, with TLS."""
    most_of_one_address = 512
    """An API server has a connection for each admission review under way, and a proxy one for each who looks at the page. One
    more takes the place of the one that has been open longest without a request to answer: the kubelet's probes may come
    from the same address as a flood."""
    request_limit_bytes = 256 * 2**10
    """Of a whole request, in pieces of any size; the application says what a body may have."""

    _received = 0
    """Bytes of this request, without the piece that it began in (at most 256 KiB, what a TLS read takes)."""
    _limit = HEAD_LIMIT_BYTES
    _begun = False
    """A request began in the piece that is being read."""
    _arriving = False
    """A request has begun to arrive and is not whole."""
    _asked = False
    """There was a request whose head is whole."""
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0
    """Loop time at which it was opened."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._close_after(self.timeout_keep_alive)
        if len(self.connections) > self.most_of_one_address:  # else nobody is counted
            self._bound_connections()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._stop_timer()
        self._begun = self._arriving = True
        self._limit = HEAD_LIMIT_BYTES
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._limit = self.request_limit_bytes
        super().on_headers_complete()
        self._asked = True

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._arriving = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._begun = False
        super().data_received(data)
        self._received = 0 if self._begun else self._received + len(data)
        if self._received > self._limit:
            self.transport.abort()
        elif self._timer is None:
            if self._arriving:
                self._close_after(REQUEST_SECONDS)
            elif not self._asked or self.cycle.response_complete:  # what came is no request
                self._close_after(self.timeout_keep_alive)

    def _bound_connections(self) -> None:
        open_ = [c for c in self.connections if isinstance(c, BoundedProtocol)]
        open_ = [c for c in open_ if not c.transport.is_closing()]
        address = _address(self)
        _make_room([c for c in open_ if _address(c) == address], self.most_of_one_address, self)
        _make_room([c for c in open_ if not c.transport.is_closing()], self.most_connections, self)

    @property
    def _is_answering(self) -> bool:
        return self._asked and not self._arriving and not self.cycle.response_complete

    def _close_after(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._waited)

    def _waited(self) -> None:
        if self.flow.read_paused:  # it is we who do not read: an earlier request is still being answered
            self._close_after(REQUEST_SECONDS)
        else:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _make_room(crowd: Sequence[BoundedProtocol], most: int, newcomer: BoundedProtocol) -> None:
    """Close one of the crowd where it is one too many: the newcomer itself where all others are being answered."""
    if len(crowd) > most:
        waiting = [one for one in crowd if one is not newcomer and not one._is_answering]
        min(waiting, key=lambda one: one._since, default=newcomer).transport.abort()


def _address(connection: HttpToolsProtocol) -> str:
    return connection.client[0] if connection.client else ""
