"""Puts the API together. Everything it needs is passed in; nothing is looked up."""

import asyncio
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from poolmgr.api import problems
from poolmgr.api.audit import AuditMiddleware
from poolmgr.api.auth import READER
from poolmgr.api.interfaces import Audit, Control, History
from poolmgr.api.problems import documented
from poolmgr.api.request_limits import RequestLimits
from poolmgr.api.routers import directives, health, nodes, pools, records, reservations
from poolmgr.api.ui import login
from poolmgr.api.ui import router as ui
from poolmgr.api.ui.live import LivePage
from poolmgr.domain.access import AccessControl
from poolmgr.kit.clock import Clock

DESCRIPTION = """\
What poolmgr sees, decides and does, and the calls that direct it: plan for a pool now, retry, cordon, quarantine, drain.

* Every decision, move and refusal carries a stable **reason code** and a sentence; the codes are listed in
  `docs/reference/reasons.md`.
* Every error is `application/problem+json` (RFC 9457). An answer that is an error means that nothing changed.
* Lists that come from the ledger are paged with `pageSize` and `pageToken`, newest first.
"""


def create_app(
    *,
    control: Control,
    history: History,
    audit: Audit,
    clock: Clock,
    access: AccessControl,
    cluster: str = "",
    pace: str = "",
    stopping: asyncio.Event | None = None,
    hosts: frozenset[str] = frozenset(),
) -> FastAPI:
    """The ASGI app.

    `cluster` names it on the dashboard; `pace` stands beside the clock. Once `stopping` is set, open event streams end, so that the server can. `hosts` are the names that
    it answers to; none: any.
    """
    app = FastAPI(
        title="poolmgr",
        version=version("poolmgr"),
        summary="GPU pool manager for Kubernetes",
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.control, app.state.history, app.state.access = control, history, access
    app.state.cluster, app.state.stopping = cluster, stopping or asyncio.Event()
    app.state.live = LivePage(control, history, pace)
    app.add_middleware(AuditMiddleware, audit=audit, clock=clock)
    app.add_middleware(RequestLimits, hosts=hosts)  # the outermost
    api = APIRouter(prefix="/api/v1", dependencies=[READER], responses=documented(401, 403))
    for module in (pools, nodes, directives, reservations, records):
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(health.router)
    app.include_router(ui.router)
    app.include_router(login.router)
    problems.install(app)
    return app
