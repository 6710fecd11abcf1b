"""Serving HTTP beside other work in one loop, and ending promptly."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

GRACE_SECONDS = 2
"""For requests in flight at the end; event streams end by themselves."""


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


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process that composes several parts handles signals once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Any, listener: socket.socket, stopping: asyncio.Event, *, tls: ssl.SSLContext | None = None
) -> None:
    """Serve `app` until `stopping`, then let requests in flight end within GRACE_SECONDS."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_SECONDS
    )
    if tls is not None:
        config.load()
        config.ssl = tls
    server = _Server(config)

    async def end() -> None:
        await stopping.wait()
        server.should_exit = True

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
