"""The HTTP shell around the decisions: routes, limits, health and metrics, nothing that decides."""

import asyncio
from time import perf_counter

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from poolmgr.domain.errors import Rejected
from poolmgr.kit.clock import Clock
from webhooks.decide import Policy, decide, decisions
from webhooks.fleet_view import FleetFeed
from webhooks.review import decode_review, encode_review

BODY_LIMIT_BYTES = 8 * 2**20
"""Twice what etcd stores at most for an object and its old version (1.5 MiB each by default), with room."""
READ_DEADLINE_SECONDS = 3.0
"""Under the webhook configurations' timeoutSeconds, so that a stalled request frees its place here first."""


class _BodyTooLarge(Exception):
    pass


def build_app(policy: Policy, feed: FleetFeed, clock: Clock) -> FastAPI:
    """The application. `feed.current()` is called once per request and must answer at once."""
    app = FastAPI(title="poolmgr admission", docs_url=None, redoc_url=None, openapi_url=None)
    registry = CollectorRegistry()
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
    known = decisions(policy, clock.now)

    @app.post("/admit/{kind}")
    async def admit(kind: str, request: Request) -> Response:
        if kind not in known:
            return Response(f"No decision for {kind}; there are {', '.join(known)}.\n", status_code=404)
        try:
            async with asyncio.timeout(READ_DEADLINE_SECONDS):
                body = await _read(request)
            started = perf_counter()
            review = decode_review(body)
        except _BodyTooLarge:
            return Response(f"The body is over {BODY_LIMIT_BYTES} bytes.\n", status_code=413)
        except TimeoutError:
            return Response("The body did not arrive in time.\n", status_code=408)
        except Rejected as error:
            return Response(error.message + "\n", status_code=400)
        answer = decide(kind, known[kind], review, feed)
        encoded = encode_review(review.uid, answer)
        requests.labels(kind, answer.verdict.reason.value).inc()
        seconds.labels(kind).observe(perf_counter() - started)
        return Response(encoded, media_type="application/json")

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        # Not ready without a view: while a rollout goes on, the replicas that know the fleet answer.
        if feed.current() is None:
            return Response("The fleet has not been read from the API server yet.\n", status_code=503)
        return Response("ok\n")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            raise _BodyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)
