"""For the kubelet and for Prometheus."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from poolmgr.api.auth import SCRAPER
from poolmgr.api.deps import ControlDep
from poolmgr.api.metrics import FleetCollector

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?", response_class=PlainTextResponse)
async def healthz() -> str:
    """Answers as long as the event loop runs."""
    return "ok\n"


@router.get("/readyz", summary="Can it answer?", responses={503: {"description": "Not ready, and why."}})
async def readyz(control: ControlDep) -> JSONResponse:
    """Ready once the whole cluster has been read. A standby is ready too: it answers everything but moves."""
    synced = control.snapshot is not None and control.snapshot.synced
    readiness = control.readiness
    body = {
        "ready": synced,
        "leading": bool(readiness),
        "reason": readiness.reason.value,
        "message": readiness.message,
    }
    return JSONResponse(body, 200 if synced else 503)


@router.get(
    "/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse, dependencies=[SCRAPER]
)
async def metrics(control: ControlDep) -> Response:
    """GPUs by pool, model, mode and state; who waits; moves; leadership; age of the view."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(control))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
