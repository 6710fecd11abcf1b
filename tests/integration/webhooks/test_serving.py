"""The server on a real socket: TLS by uvloop, HTTP by llhttp."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable

import pytest
from uvloop import new_event_loop

from poolmgr.kit.clock import SystemClock
from poolmgr.kit.http_protocol import HEAD_LIMIT_BYTES
from tests.unit.webhooks.objects import container, pod, small_fleet
from webhooks.app import build_app
from webhooks.certificates import Certificates, renewed
from webhooks.decide import Policy
from webhooks.fleet_view import FleetView
from webhooks.serving import REQUEST_LIMIT_BYTES, TlsCertificate, server

pytestmark = pytest.mark.integration
VIEW = small_fleet()
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[Certificates], Awaitable[Connection]]


class Feed:
    def current(self) -> FleetView:
        return VIEW


def certificates() -> Certificates:
    return renewed(None, frozenset({"127.0.0.1"}), SystemClock().now())


def served(talk: Callable[[TlsCertificate, Certificates, Connect], Awaitable[None]]) -> None:
    """Serve, run `talk`, stop. `talk` gets the TLS side, what it serves, and how to connect trusting an authority."""

    async def run() -> None:
        tls, first = TlsCertificate(), certificates()
        tls.use((first.certificate, first.key))
        serving = server(build_app(Policy(), Feed(), SystemClock()), tls, "127.0.0.1", 0)
        task = asyncio.create_task(serving.serve())
        while not serving.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        port = serving.servers[0].sockets[0].getsockname()[1]

        async def connect(trusted: Certificates) -> Connection:
            context = ssl.create_default_context(cadata=trusted.authorities.decode())
            return await asyncio.open_connection("127.0.0.1", port, ssl=context)

        try:
            await talk(tls, first, connect)
        finally:
            serving.stop()
            await task

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())


def request(uid: str) -> bytes:
    asked = {"uid": uid, "operation": "CREATE", "object": pod(container(gpu=1))}
    body = json.dumps({"request": asked}).encode()
    return b"POST /admit/pods?timeout=3s HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, object]]:
    """Status line and body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head.split(b"\r\n", 1)[0], json.loads(await reader.readexactly(int(length.split(b":")[1])))


def test_a_connection_lives_on_while_the_certificate_changes_and_a_new_one_gets_the_new() -> None:
    async def talk(tls: TlsCertificate, first: Certificates, connect: Connect) -> None:
        reader, writer = await connect(first)
        writer.write(request("u1"))
        assert (await answer(reader))[0] == b"HTTP/1.1 200 OK"
        second = certificates()
        tls.use((second.certificate, second.key))
        other_reader, other_writer = await connect(second)
        for uid, (source, sink) in {"u2": (reader, writer), "u3": (other_reader, other_writer)}.items():
            sink.write(request(uid))
            _, review = await answer(source)
            assert review["response"]["uid"] == uid  # type: ignore[index]
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(first)

    served(talk)


def test_a_request_may_come_byte_by_byte_and_two_at_once() -> None:
    async def talk(tls: TlsCertificate, first: Certificates, connect: Connect) -> None:
        reader, writer = await connect(first)
        for byte in request("u1"):
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await answer(reader))[1]["response"]["uid"] == "u1"  # type: ignore[index]
        writer.write(request("u2") + request("u3"))
        for uid in ("u2", "u3"):
            assert (await answer(reader))[1]["response"]["uid"] == uid  # type: ignore[index]

    served(talk)


@pytest.mark.parametrize(
    ("start", "piece", "limit"),
    [
        (b"POST /admit/pods HTTP/1.1\r\nHost: w\r\nX: ", b"x" * 4096, HEAD_LIMIT_BYTES),
        (b"POST /admit/", b"x" * 4096, HEAD_LIMIT_BYTES),
        (
            b"POST /admit/pods HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ",
            b"x" * 65536,
            REQUEST_LIMIT_BYTES,
        ),
    ],
    ids=["header", "path", "trailer"],
)
def test_a_head_or_trailer_without_end_closes_the_connection(start: bytes, piece: bytes, limit: int) -> None:
    async def talk(tls: TlsCertificate, first: Certificates, connect: Connect) -> None:
        reader, writer = await connect(first)
        writer.write(start)
        sent, most = 0, 4 * limit + 2**22
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and sent < most:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)  # client and server share a loop
                sent += len(piece)
        assert sent < most
        assert sent >= limit - len(piece)
        reader, writer = await connect(first)
        writer.write(request("u1"))
        assert (await answer(reader))[0] == b"HTTP/1.1 200 OK", "others are served"

    served(talk)
