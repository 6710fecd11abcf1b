"""The HTTP shell around the decisions: the admission endpoint, health and metrics. Nothing here decides."""

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import ASGIApp

from poolmgr.kit.clock import Clock
from webhooks.admission import AdmissionApp
from webhooks.decide import Policy
from webhooks.fleet_view import FleetFeed


def build_app(policy: Policy, feed: FleetFeed, clock: Clock) -> ASGIApp:
    """The application. `feed.current()` is called once per request and must answer at once."""
    app = FastAPI(title="poolmgr admission", docs_url=None, redoc_url=None, openapi_url=None)
    registry = CollectorRegistry()

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

    return AdmissionApp(app, policy, feed, clock, registry)
