"""What a request may be at all, looked at before anything of it is parsed, asked or kept."""

import ipaddress
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poolmgr.api.problems import answer
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.wire.text import whole

MAX_BODY_BYTES = 64 * 1024
"""The largest body of an operation is some hundred bytes."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def hosts_served(address: str) -> frozenset[str]:
    """The names that a server listening on `address` answers to; none: it answers to any.

    On loopback only its own names count. A web page that had its name resolve to 127.0.0.1 would otherwise speak to the
    manager with the browser's hands (DNS rebinding).
    """
    return LOOPBACK_NAMES if ipaddress.ip_address(address).is_loopback else frozenset()


class RequestLimits:
    """Refuses requests to a name that is not served, and NUL characters, which no database can hold.

    HEAD is answered as GET is, without the body.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            await answer(refusal, Request(scope))(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _head_only(send))
        else:
            await self._app(scope, _limited(receive), send)

    def _refusal(self, scope: Scope) -> Rejected | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and _name(host) not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            return Rejected(
                Reason.HOST_NOT_SERVED, f"this server does not answer to {host[:100]!r}, only to {known}"
            )
        length = headers.get("content-length", "")
        if length and whole(length, MAX_BODY_BYTES + 1) > MAX_BODY_BYTES:
            return Rejected(Reason.REQUEST_TOO_LARGE, f"the body is longer than {MAX_BODY_BYTES} bytes")
        if "\0" in scope["path"] or b"\0" in unquote_to_bytes(scope["query_string"]):
            return Rejected(Reason.INVALID_REQUEST, "the request holds a NUL character: leave it out")
        return None


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    if host.startswith("["):
        address, closed, _ = host[1:].partition("]")
        return address.lower() if closed else ""
    return host.partition(":")[0].lower().rstrip(".")


def _limited(receive: Receive) -> Receive:
    """Gives the body up once it is too long, where nobody has said how long it will be."""
    seen = 0

    async def received() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return received


def _head_only(send: Send) -> Send:
    """Sends status and headers, and ends: what follows of the body goes nowhere."""
    ended = False

    async def sent(message: Message) -> None:
        nonlocal ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return sent
