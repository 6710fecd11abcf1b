"""The demo's questions over real connections, to servers that close theirs at the worst moment."""

import asyncio
import json
from dataclasses import replace

import httpx
import pytest

from poolmgr.cli.demo_admission import ask_about_machines
from poolmgr.cli.serving import configuration
from poolmgr.kit.clock import SystemClock
from tests.showcase import fleet, vm
from tests.unit.api.stand_ins import Steering

pytestmark = pytest.mark.integration

ANSWER = json.dumps({"response": {"warnings": ["wait"]}}).encode()


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first request and keeps the connection open; closes it when a second one arrives on it, as a
    server does whose idle limit is reached while the request is on its way."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
    )
    writer.write(ANSWER)
    await writer.drain()
    await reader.read(1)
    writer.close()


async def test_a_connection_that_the_server_closes_while_it_idles_loses_no_question() -> None:
    control = Steering(snapshot=replace(fleet(), vms=(vm("first"),)))
    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asking = ask_about_machines(
        control,  # type: ignore[arg-type]
        f"http://127.0.0.1:{port}",
        SystemClock(),
        interval_seconds=0,
    )
    async with server:
        assert (await anext(asking)).endswith("first was told: wait")
        control.snapshot = replace(fleet(generation=99), vms=(vm("first"), vm("second")))
        assert (await anext(asking)).endswith("second was told: wait")
        await asking.aclose()


def test_our_servers_keep_idle_connections_longer_than_httpx_does() -> None:
    kept = httpx.Limits().keepalive_expiry
    assert kept is not None
    assert configuration(None).timeout_keep_alive > kept
