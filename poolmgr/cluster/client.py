"""Requests to the API server in the domain's terms: typed answers, and errors that say what to do next.

Reads are repeated on Unavailable with jitter until a deadline; writes are never repeated here, because only
the caller knows whether the same write is still right.
"""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import tenacity

from poolmgr.cluster.lease_settings import REQUEST_TIMEOUT_SECONDS
from poolmgr.cluster.transport import Response, Transport
from poolmgr.domain.errors import Fault, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock
from poolmgr.wire.decoding import decode_as
from poolmgr.wire.http_errors import error_of, is_success

T = TypeVar("T")

FIELD_MANAGER = "poolmgr-manager"
LIST_TIMEOUT_SECONDS = 60.0
"""A page of a list may be large and the API server busy at start."""
READ_DEADLINE_SECONDS = 15.0
BACKOFF_BASE_SECONDS = 0.2
BACKOFF_CAP_SECONDS = 5.0


class ContentType(StrEnum):
    JSON = "application/json"
    MERGE_PATCH = "application/merge-patch+json"
    JSON_PATCH = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


class Client:
    """One connection to one cluster. Owns `transport`."""

    def __init__(self, transport: Transport, *, clock: Clock, rng: random.Random) -> None:
        self._transport = transport
        self._clock = clock
        self._rng = rng

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def rng(self) -> random.Random:
        return self._rng

    async def close(self) -> None:
        await self._transport.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object | None = None,
        content_type: ContentType = ContentType.JSON,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Response:
        """One request, any status. Raises Unavailable when no answer came."""
        return await self._transport.request(
            method, path, query or {}, body, content_type.value, timeout_seconds
        )

    async def read(
        self,
        path: str,
        as_type: type[T],
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        deadline_seconds: float = READ_DEADLINE_SECONDS,
    ) -> T:
        """GET and decode. Repeats on Unavailable until `deadline_seconds` have passed."""

        async def once() -> T:
            response = await self.call("GET", path, query=query, timeout_seconds=timeout_seconds)
            return decode(ok(response, f"GET {path}").body, as_type, path)

        started = self._clock.monotonic()
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            stop=lambda _: self._clock.monotonic() - started >= deadline_seconds,
            wait=lambda state: backoff(self._rng, state.attempt_number),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return await retrying(once)

    async def write(
        self,
        method: str,
        path: str,
        body: object,
        as_type: type[T],
        *,
        content_type: ContentType = ContentType.JSON,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> T:
        """POST, PUT or PATCH once and decode the object as stored."""
        response = await self.call(
            method,
            path,
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type=content_type,
            timeout_seconds=timeout_seconds,
        )
        return decode(ok(response, f"{method} {path}").body, as_type, path)

    async def apply(self, path: str, body: object, as_type: type[T], *, force: bool = False) -> T:
        """Server-side apply in our field manager's name; a field owned by another is a Stale unless forced."""
        response = await self.call(
            "PATCH",
            path,
            query={"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"},
            body=body,
            content_type=ContentType.APPLY,
        )
        return decode(ok(response, f"apply {path}").body, as_type, path)

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], *, read_timeout_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a watch. A status other than 200 raises as for any request."""
        async with self._transport.stream(path, query, read_timeout_seconds) as answer:
            if isinstance(answer, Response):
                ok(answer, f"watch {path}")
                raise Fault(Reason.INVARIANT_BROKEN, f"watch {path} answered without a stream.")
            yield answer


def backoff(rng: random.Random, attempt: int) -> float:
    """Full jitter: up to base × 2^(attempt-1) seconds, capped, never less than a tenth of that."""
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** min(attempt - 1, 16))
    return rng.uniform(ceiling / 10, ceiling)


def ok(response: Response, what: str) -> Response:
    """The response if its status is 2xx. Raises the error that it stands for otherwise."""
    if is_success(response.status):
        return response
    raise error_of(response.status, response.body, what, response.retry_after_seconds)


def decode(body: bytes, as_type: type[T], what: str) -> T:
    """Decode or raise Fault: an object of ours or of the API that does not fit its type is a defect."""
    try:
        return decode_as(as_type, body)
    except msgspec.DecodeError as error:
        raise Fault(Reason.INVARIANT_BROKEN, f"{what} answered something unexpected: {error}.") from error


def encode_body(value: Any) -> Any:
    """JSON-like builtins of a wire Struct, as the transport's serialiser wants them."""
    return msgspec.to_builtins(value)
