"""Serving HTTP beside other work in one loop, and ending promptly."""

import asyncio
import signal
import socket
from typing import Any

import uvicorn

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.kit.http_protocol import BoundedProtocol
from poolmgr.kit.http_server import Server

GRACE_SECONDS = 2
"""For requests in flight at the end; event streams end by themselves."""
KEEP_ALIVE_SECONDS = 120
"""How long an idle connection stays open: longer than clients keep theirs (httpx 5 s, Go 90 s), so that it is they
who close. A server that closes first may do it in the moment in which a request is sent, which is then lost."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Rejected with a sentence where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"port {port} on {host} cannot be used ({error.strerror}): another program has it, perhaps an "
            "earlier poolmgr; choose another with --port (make run PORT=8081)",
        ) from error
    listener.listen(128)
    return listener


def configuration(app: Any) -> uvicorn.Config:
    """How poolmgr's servers are set."""
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        proxy_headers=False,  # a caller would say from where it calls, in the audit too
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


async def serve(app: Any, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Serve `app` until `stopping`, then let requests in flight end within GRACE_SECONDS."""
    server = Server(configuration(app))

    async def end() -> None:
        await stopping.wait()
        server.stop()

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[listener])
    finally:
        ending.cancel()
        listener.close()


def stop_on_signals(stopping: asyncio.Event) -> None:
    """The first Ctrl-C or SIGTERM ends in order; a second Ctrl-C ends at once."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        stopping.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, first)
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
