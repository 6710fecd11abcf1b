"""The page, its static files, and the stream that keeps it live."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from poolmgr.api.ui.live import LivePage, templates
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

router = APIRouter(include_in_schema=False)

TYPES = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "mark.svg": "image/svg+xml"}
"""All static files there are; anything else is not served."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@cache
def _static(name: str) -> bytes:
    return files("poolmgr.api.ui").joinpath("static", name).read_bytes()


@cache
def _version() -> str:
    """Of the static files together: part of their address, so that an upgrade is seen at once."""
    return hashlib.sha256(b"".join(_static(name) for name in TYPES)).hexdigest()[:10]


NodePage = Annotated[int, Query(ge=1, le=10_000)]
"""Which of the pages of nodes."""


@router.get("/")
async def page(request: Request, page: NodePage = 1) -> HTMLResponse:
    live: LivePage = request.app.state.live
    shown = await live.shown(page)
    html = (
        templates()
        .get_template("page.html")
        .render(regions=shown.regions, cluster=request.app.state.cluster, version=_version())
    )
    return HTMLResponse(html, headers=HEADERS | {"Cache-Control": "no-store"})


@router.get("/ui/events")
async def events(request: Request, page: NodePage = 1) -> StreamingResponse:
    live: LivePage = request.app.state.live
    return StreamingResponse(
        live.changes(request.app.state.stopping, page),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/ui/static/{name}")
async def static(name: str) -> Response:
    if name not in TYPES:
        raise Rejected(Reason.NOT_FOUND, f"there is no file {name!r} here")
    return Response(
        _static(name),
        media_type=TYPES[name],
        headers=HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"},
    )
