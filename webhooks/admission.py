"""The admission endpoint: the one path of this process that every pod of the cluster takes.

Plain ASGI in front of the application that serves the rest: a web framework's way to a handler took ten times as
long as the decision. Nothing here decides; see `decide`.
"""

import asyncio
from functools import cache
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock
from poolmgr.wire.text import whole
from webhooks.decide import Handler, Policy, decide, handlers, read
from webhooks.fleet_view import FleetFeed
from webhooks.review import Answer, Asker, Unchecked, encode_review, read_asker, unchecked
from webhooks.turns import Buffer, Crowded, Turns

PREFIX = "/admit/"
BODY_LIMIT_BYTES = 8 * 2**20
"""Twice what etcd stores at most for an object and its old version (1.5 MiB each by default), with room."""
DECIDED_LIMIT_BYTES = 2**20
"""Of a body that is decided on; a launcher's review has 20 KB. What is decoded takes up to forty times its size."""
BUFFER_BYTES = 8 * BODY_LIMIT_BYTES
"""Of bodies that are held at once, well within the memory that the chart gives (512 MiB)."""
READ_DEADLINE_SECONDS = 3.0
"""Under the webhook configurations' timeoutSeconds, so that a stalled request frees its place here first."""
DECISION_DEADLINE_SECONDS = 1.0
"""After its body was read. The API server waits three seconds in all, and lets the request pass as well."""

JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"


class _Refusal(Exception):
    """The request is no review; answered with this status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def _too_large() -> _Refusal:
    return _Refusal(413, f"The body is over {BODY_LIMIT_BYTES} bytes.")


class _Gone(Exception):
    """The client went away before its request was whole."""


class AdmissionApp:
    """`POST /admit/<kind>`; every other path is `rest`'s. `feed.current()` is called once per request and must
    answer at once."""

    def __init__(
        self, rest: ASGIApp, policy: Policy, feed: FleetFeed, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._rest = rest
        self._known = handlers(policy, clock.now)
        self._feed = feed
        requests = Counter(
            "poolmgr_webhook_requests_total", "Reviews answered.", ["kind", "reason"], registry=registry
        )
        seconds = Histogram(
            "poolmgr_webhook_seconds",
            "Time from the body read to the answer.",
            ["kind"],
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1),
            registry=registry,
        )
        self._unchecked = Counter(
            "poolmgr_webhook_unchecked_total",
            "Reviews that pass unchecked: too_large, crowded (too many of one namespace waited), late, or unreadable "
            "(answered with 400; the API server lets the request pass under failurePolicy Ignore).",
            ["kind", "why"],
            registry=registry,
        )
        self._clock = clock
        self._buffer, self._turns = Buffer(BUFFER_BYTES), Turns()

        # Looking a series up by its labels takes longer than counting in it.
        @cache
        def counter_of(kind: str, reason: Reason) -> Counter:
            return requests.labels(kind, reason.value)

        @cache
        def seconds_of(kind: str) -> Histogram:
            return seconds.labels(kind)

        self._counter_of, self._seconds_of = counter_of, seconds_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._rest(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive)
        except _Refusal as refusal:
            await _respond(send, refusal.status, TEXT, f"{refusal}\n".encode())
        except _Gone:
            return
        else:
            await _respond(send, 200, JSON, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        """The AdmissionReview that answers. Raises _Refusal or _Gone."""
        if scope["method"] != "POST":
            raise _Refusal(405, "Reviews are sent by POST.")
        kind = scope["path"][len(PREFIX) :]
        decision = self._known.get(kind)
        if decision is None:
            raise _Refusal(404, f"No decision for {kind}; there are {', '.join(self._known)}.")
        size = _declared_size(scope)
        if size > BODY_LIMIT_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(READ_DEADLINE_SECONDS) as deadline, self._buffer.taken(size):
                body = await _read(receive)
                deadline.reschedule(None)
                return await self._answer_to(kind, decision, body)
        except TimeoutError:
            raise _Refusal(408, "The body did not arrive in time.") from None

    async def _answer_to(self, kind: str, decision: Handler, body: bytes) -> bytes:
        """The answer, as soon as it is this review's turn; that it was let pass unchecked where that took too long."""
        arrived = self._clock.monotonic()
        try:
            asker = read_asker(body)
            if len(body) > DECIDED_LIMIT_BYTES:
                return self._encoded(kind, asker, unchecked(Unchecked.TOO_LARGE))
            async with self._turns.turn(asker.namespace):
                if self._clock.monotonic() - arrived > DECISION_DEADLINE_SECONDS:
                    return self._encoded(kind, asker, unchecked(Unchecked.LATE))
                started = perf_counter()
                review = read(kind, body)
                answer = decide(kind, decision, review, self._feed)
                encoded = self._encoded(kind, asker, answer)
                self._seconds_of(kind).observe(perf_counter() - started)
                return encoded
        except Rejected as error:
            self._counter_of(kind, error.reason).inc()
            self._unchecked.labels(kind, "unreadable").inc()
            raise _Refusal(400, error.message) from error
        except Crowded:
            return self._encoded(kind, asker, unchecked(Unchecked.CROWDED))

    def _encoded(self, kind: str, asker: Asker, answer: Answer) -> bytes:
        self._counter_of(kind, answer.verdict.reason).inc()
        if answer.unchecked is not None:
            self._unchecked.labels(kind, answer.unchecked.name.lower()).inc()
        return encode_review(asker.uid, answer)


def _declared_size(scope: Scope) -> int:
    """Bytes of the body as its header says; the most that is read where it does not."""
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"").decode(
        "latin-1"
    )
    return whole(text, otherwise=BODY_LIMIT_BYTES)


async def _read(receive: Receive) -> bytes:
    """The whole body, which nearly always comes in one message. Raises _Refusal, _Gone."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            raise _too_large()
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _respond(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    if status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
